"""State of the process around a node: global generators of random numbers, environment variables, and the current directory."""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from nodegraph.plugins.backend import Backend

_HEADER_BYTES: Final = object.__basicsize__
_STATE_BYTES: Final = 4 + 624 * 4  # the position in the state, and the state


class Changes:
    """What a node changed. `drew`: it drew from a global generator. `restored`: what was changed back, for a notice."""

    def __init__(self) -> None:
        self.drew = False
        self.restored: list[str] = []


_lock = threading.Lock()
_running = 0


@contextlib.contextmanager
def watched(backend: Backend, *, numeric: bool) -> Iterator[Changes]:
    """Watch the block of a node, and restore what it changed if no other node runs."""
    global _running
    changes = Changes()
    with _lock:
        _running += 1
    environment, directory = dict(_variables()), _current_directory()
    python, others = _python_state(), backend.generator_states(numeric)
    try:
        with backend.known_state() if numeric else contextlib.nullcontext():
            yield changes
    finally:
        now = backend.generator_states(numeric)
        changes.drew = python != _python_state() or any(now[name] != state for name, state in others.items() if name in now)
        with _lock:
            no_other_node = _running == 1
            _running -= 1
            if no_other_node and environment != _variables():
                _restore(environment)
                changes.restored.append("environment variables")
            if no_other_node and directory is not None and directory != _current_directory():
                with contextlib.suppress(OSError):
                    os.chdir(directory)
                    changes.restored.append("the current directory")


def _variables() -> Mapping[Any, Any]:
    """The environment variables, as `os` keeps them: decoding them takes long."""
    return getattr(os.environ, "_data", None) or os.environ


def _restore(environment: Mapping[Any, Any]) -> None:
    decode: Callable[[Any], str] = getattr(os.environ, "decodekey", str)
    before = {decode(name): os.fsdecode(value) for name, value in environment.items()}
    for name in set(os.environ) - before.keys():
        del os.environ[name]
    os.environ.update(before)


def _current_directory() -> str | None:
    try:
        return os.getcwd()  # noqa: PTH109 (this runs for every node)
    except OSError:
        return None


def _python_state() -> Any:
    """What differs once a number was drawn from Python's global generator."""
    return _reader()()


@functools.cache
def _reader() -> Callable[[], Any]:
    """Returns the memory of Python's global generator: `random.getstate` makes 625 numbers, which takes ten times as long.

    In a version of Python where the memory does not look as expected, it is `random.getstate`.
    """
    import ctypes
    import random

    generator = getattr(random.random, "__self__", None)
    if sys.implementation.name != "cpython" or generator is None:
        return random.getstate
    if type(generator).__mro__[1].__basicsize__ < _HEADER_BYTES + _STATE_BYTES:
        return random.getstate
    read = functools.partial(ctypes.string_at, id(generator) + _HEADER_BYTES, _STATE_BYTES)
    numbers, words = random.getstate()[1], memoryview(read()).cast("I")
    return read if [*words[1:], words[0]] == [*numbers] else random.getstate
