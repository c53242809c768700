"""Python's cyclic garbage collector, and where it would do nothing but harm."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_collector() -> Iterator[None]:
    """Pause the collector for a block that makes many objects and no garbage, as one that builds a graph or a plan.

    To go through the objects for cycles again and again, while they grow in number, takes more than linear time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
