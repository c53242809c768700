"""Files that have to be fetched over the network before a node can read them: a run fetches them, a check does not.

A lock file may say what they hold: what arrives is compared with that.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from typing import TypeAlias

from nodegraph.errors import NodegraphError

Digests: TypeAlias = Mapping[str, str]
"""The SHA-256 of each file that an input reads, by the names of its `Resource`."""

_may_fetch: ContextVar[bool] = ContextVar("may_fetch", default=True)
_expected: ContextVar[Callable[[str], Digests]] = ContextVar("expected_digests", default=lambda text: {})


class NotFetchedError(NodegraphError):
    """A file is not on this machine yet, and nothing may be fetched now. The message says what a run will fetch, and how."""


def may_fetch() -> bool:
    """Whether an input's `resolve` may use the network. If not, it raises NotFetchedError instead.

    A run may, `check`, `show`, `explain` and `Engine.plan` may not.
    """
    return _may_fetch.get()


def expected_digests(text: str) -> Digests:
    """The SHA-256 that the files named by the text of an input must have, by the names of its `Resource`; empty if none is known.

    An input's `resolve` that fetches files compares what arrives with these, before it uses it or replaces anything.
    """
    return _expected.get()(text)


@contextlib.contextmanager
def expecting(digests: Callable[[str], Digests]) -> Iterator[None]:
    """During the block, `digests` returns what `expected_digests` does."""
    token = _expected.set(digests)
    try:
        yield
    finally:
        _expected.reset(token)


@contextlib.contextmanager
def without_fetching() -> Iterator[None]:
    """Fetch nothing during the block."""
    token = _may_fetch.set(False)
    try:
        yield
    finally:
        _may_fetch.reset(token)
