"""Files that have to be fetched over the network before a node can read them: a run fetches them, a check does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

from nodegraph.errors import NodegraphError

_may_fetch: ContextVar[bool] = ContextVar("may_fetch", default=True)


class NotFetchedError(NodegraphError):
    """A file is not on this machine yet, and nothing may be fetched now. The message says what a run will fetch, and how."""


def may_fetch() -> bool:
    """Whether an input's `resolve` may use the network. If not, it raises NotFetchedError instead.

    A run may, `check`, `show`, `explain` and `Engine.plan` may not.
    """
    return _may_fetch.get()


@contextlib.contextmanager
def without_fetching() -> Iterator[None]:
    """Fetch nothing during the block."""
    token = _may_fetch.set(False)
    try:
        yield
    finally:
        _may_fetch.reset(token)
