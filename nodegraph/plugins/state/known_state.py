"""The known state for code of plugins that runs outside nodes: their codecs, and their functions that find files.

It is the state in which watched nodes run, so what a program sets around the engine changes no stored byte and no value.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar

from nodegraph.plugins.backend import Backend
from nodegraph.plugins.state import locale_state
from nodegraph.plugins.state.generators import drew, generator_reader
from nodegraph.plugins.state.number_state import Numbers, enter_known_numbers, leave_known_numbers

P = ParamSpec("P")
T = TypeVar("T")


class _Thread(threading.local):
    """The blocks that the current thread is in, and what the outermost of them restores."""

    depth = 0
    numbers: Numbers
    of_backend: AbstractContextManager[None]


class KnownState:
    """Sets the known state during a block and restores the program's own afterwards. Only the outermost block takes time.

    `backend` returns the backend whose libraries have state, too. One object serves all threads.
    """

    def __init__(self, backend: Callable[[], Backend]) -> None:
        self._backend, self._thread = backend, _Thread()

    def __repr__(self) -> str:
        return f"<KnownState of {type(self._backend()).__name__}>"

    def __enter__(self) -> None:
        thread = self._thread
        if thread.depth == 0:
            thread.numbers = enter_known_numbers()
            with locale_state.lock:
                locale_state.enter_known_locale()
            thread.of_backend = self._backend().known_state()
            thread.of_backend.__enter__()
        thread.depth += 1

    def __exit__(self, *error: object) -> None:
        thread = self._thread
        thread.depth -= 1
        if thread.depth == 0:
            thread.of_backend.__exit__(None, None, None)
            with locale_state.lock:
                locale_state.leave_known_locale()
            leave_known_numbers(thread.numbers)

    def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """What the function returns in the known state."""
        with self:
            return function(*args, **kwargs)

    def generators(self) -> tuple[Any, Mapping[str, Any]]:
        """The states of the global generators of random numbers, for `drew_since`."""
        return generator_reader()(), self._backend().generator_states(True)

    def drew_since(self, before: tuple[Any, Mapping[str, Any]]) -> bool:
        """Whether a number was drawn since the generators had these states."""
        python, others = self.generators()
        return bool(python != before[0]) or drew(before[1], others)
