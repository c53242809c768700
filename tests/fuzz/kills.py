"""Ends a process at one of its writes to a cache directory, before it or soon after: there a kill does most harm."""

from __future__ import annotations

import os
import random
import signal
import sys
from typing import Any, Final

EXITS: Final = (-signal.SIGKILL, -signal.SIGALRM)
"""The exit codes of processes that ended themselves."""

LATER_SHARE: Final = 0.5
LATER_SECONDS: Final = 0.01
"""In this share of cases, the process goes on for some time, at most this long."""

_NAMED: Final = {"os.rename": 1, "os.link": 1, "os.remove": 0}
"""The audit events that give a file its name, or take it away, each with the number of the argument that is the path."""

_FLAGS: Final = os.O_WRONLY | os.O_RDWR
_UNREAD: Final = ("/tmp/", "/locks/")
"""Files in these folders are not counted: nothing reads what they hold."""


def end_at_write(beginning: str, number: int) -> None:
    """End this process at its write number `number` to a file whose path begins with `beginning`.

    A file is opened to be written, or gets its name or loses it. This cannot be undone.
    """
    remaining = [None] * number
    generator = random.Random()

    def watch(event: str, arguments: tuple[Any, ...]) -> None:
        if event in _NAMED:
            path = str(arguments[_NAMED[event]])
        elif event == "open" and arguments[2] & _FLAGS:
            path = str(arguments[0])
        else:
            return
        if remaining and path.startswith(beginning) and not any(folder in path[len(beginning) :] for folder in _UNREAD):
            remaining.pop()
            if not remaining:
                _end(generator)

    sys.addaudithook(watch)


def _end(generator: random.Random) -> None:
    """End the process at once, or let a timer do it, whose signal ends the process without a trace as SIGKILL does."""
    if generator.random() < LATER_SHARE:
        signal.setitimer(signal.ITIMER_REAL, generator.uniform(1e-6, LATER_SECONDS))
    else:
        os.kill(os.getpid(), signal.SIGKILL)
