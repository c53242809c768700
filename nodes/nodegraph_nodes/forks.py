"""Children that a node forks, by `os.fork` or by `multiprocessing` with the start method "fork"."""

from __future__ import annotations

import functools
import os
import sys


def compute_with_one_thread() -> None:
    """Make torch compute with one thread in this process, a forked child.

    OpenMP would otherwise wait forever for the threads of its parent, which do not exist in the child.
    """
    set_num_threads = getattr(sys.modules.get("torch"), "set_num_threads", None)  # torch may be half imported
    if set_num_threads is not None:
        set_num_threads(1)


@functools.cache
def prepare() -> None:
    """Prepare this process for nodes that fork it; once."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=compute_with_one_thread)
