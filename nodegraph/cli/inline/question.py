"""Asks a terminal what it can (DA1, "primary device attributes"), and leaves nothing of the answer in its input."""

from __future__ import annotations

import os
import re
import time
from typing import Final

_QUESTION: Final = b"\x1b[c"
_ANSWER: Final = re.compile(rb"\x1b\[\?([\d;]*)c")
_SECONDS: Final = 1.0  # terminals answer at once, but the way may be long; few never answer
_SIXEL: Final = "4"


def takes_sixel(descriptor: int, seconds: float = _SECONDS) -> bool:
    """Whether the terminal behind an open file says that it shows sixel graphics. False if it cannot be asked.

    It is not asked if this process runs in the background, or if the user has typed something that the answer would be mixed with.
    """
    try:
        import termios
    except ImportError:  # Windows
        return False
    try:
        if os.tcgetpgrp(descriptor) != os.getpgrp():
            return False
        before = termios.tcgetattr(descriptor)
        silent = [*before]
        silent[3] &= ~(termios.ICANON | termios.ECHO)  # bytes come at once, and are not shown
        termios.tcsetattr(descriptor, termios.TCSANOW, silent)
        has_answered = True
        try:
            if _is_readable(descriptor, 0):
                return False
            os.write(descriptor, _QUESTION)
            answer = _read_answer(descriptor, seconds)
            has_answered = answer is not None
            return _SIXEL in (answer or "").split(";")
        finally:
            termios.tcsetattr(descriptor, termios.TCSANOW if has_answered else termios.TCSAFLUSH, before)
    except (OSError, termios.error):
        return False


def _read_answer(descriptor: int, seconds: float) -> str | None:
    """The attributes in the answer; None if it does not come in time. What comes after the answer is not read."""
    end = time.monotonic() + seconds
    received = b""
    while _is_readable(descriptor, end - time.monotonic()):
        byte = os.read(descriptor, 1)
        received += byte
        if match := _ANSWER.search(received):
            return match[1].decode()
        if not byte:
            return None
    return None


def _is_readable(descriptor: int, seconds: float) -> bool:
    import select

    return bool(select.select([descriptor], [], [], max(0.0, seconds))[0])
