"""Pauses Python's cyclic garbage collector where it would only cost time."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def gc_paused() -> Iterator[None]:
    """Pause the collector for a block that makes many objects and no garbage, such as one that builds a graph or a plan.

    The collector would search the growing number of objects for cycles again and again, which takes more than linear time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def pause_at_start() -> None:
    """Pause the collector while the program imports its modules, which are many objects and no garbage."""
    gc.disable()


def resume_after_start() -> None:
    """Let the collector work again if it was paused. It never looks at what was imported until now."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()


def skip_at_exit() -> None:
    """Let the process end without a last search for garbage: the memory is freed anyway."""
    gc.freeze()
