"""What the lock file of a workflow says about the files that a run fetches."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from nodegraph.node_types.fetching import Digests

if TYPE_CHECKING:
    from nodegraph.run.lock.lock_file import Files


def expected_by(file: Path | None) -> Callable[[str], Digests]:
    """Returns a function from the text of an input to the digests in the lock file of the workflow's `file`, if it has one.

    The lock file is read when they are first asked for. Then it raises LockError if it cannot be used.
    """
    if file is None:
        return lambda text: {}

    @functools.cache
    def files() -> Files:
        from nodegraph.run.lock.lock_file import lock_path, read_lock

        path = lock_path(file)
        return read_lock(path).files if path.exists() else {}

    return lambda text: files().get(text, {})
