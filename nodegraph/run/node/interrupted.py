"""Counts the interrupts of Ctrl-C: a node may catch KeyboardInterrupt, and return what it has so far.

That is done only where Python's own handler would raise it. A program with a handler of its own stops a run in its own way.
"""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Final

count = 0
"""How many there were while runs went on in the main thread."""

_PYTHONS_OWN: Final = signal.default_int_handler


@contextlib.contextmanager
def counted() -> Iterator[None]:
    """Count the interrupts in the block."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not _PYTHONS_OWN:
        yield
        return
    signal.signal(signal.SIGINT, _count)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, _PYTHONS_OWN)


def _count(number: int, frame: FrameType | None) -> None:
    global count
    count += 1
    _PYTHONS_OWN(number, frame)
