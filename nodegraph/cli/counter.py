"""The number of files that a command on the cache has dealt with, shown on a terminal.

It is not in `progress.py`, whose events `--help` would import.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from nodegraph.run.display.time_left import Clock
from nodegraph.terminal import is_terminal, write

_COUNT_SECONDS = 0.1  # between two states of a counter


@contextlib.contextmanager
def counter() -> Iterator[Callable[[str, int, int | None], None]]:
    """Yields a function that shows with how many files something is done, such as "removed", and how many there are.

    It does so on a terminal, in one line that goes away.
    """
    if not is_terminal(sys.stderr):
        yield lambda action, done, total: None
        return
    clock, shown = Clock(), 0

    def show(action: str, done: int, total: int | None) -> None:
        nonlocal shown
        if clock.is_due(_COUNT_SECONDS):
            text = f"{action} {done} files" if total is None else f"{action} {done} of {total} files"
            write(f"\r{text.ljust(shown)}", err=True, end="")
            shown = len(text)

    try:
        yield show
    finally:
        write(f"\r{' ' * shown}\r", err=True, end="")
