"""Whether numbers were drawn from global generators of random numbers: Python's, and those of the backend's libraries."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

_HEADER_BYTES: Final = object.__basicsize__
_STATE_WORDS: Final = 625  # the position in the state, and the state of 624 words


def drew(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether a generator differs. A library that was imported in between has only a state now."""
    return before != now and any(now[name] != state for name, state in before.items() if name in now)


@cache
def generator_reader() -> Callable[[], Any]:
    """Returns a function that returns what differs once a number was drawn from Python's global generator.

    It reads the generator's memory, which takes a hundredth of `random.getstate`. The position in the state changes with each draw;
    every 624 words the state changes, too. So the position and one word of the state are enough. `random.gauss` keeps every second
    number for the next call, which then changes neither. In a version of Python where the memory does not look as expected, the
    function is `random.getstate`.
    """
    import ctypes
    import random

    generator = getattr(random.random, "__self__", None)
    if sys.implementation.name != "cpython" or generator is None:
        return random.getstate
    if type(generator).__mro__[1].__basicsize__ < _HEADER_BYTES + 4 * _STATE_WORDS:
        return random.getstate
    memory = (ctypes.c_uint32 * _STATE_WORDS).from_address(id(generator) + _HEADER_BYTES)
    numbers = random.getstate()[1]
    if [*memory[1:], memory[0]] != [*numbers]:
        return random.getstate
    position_and_word = (ctypes.c_uint64 * 2).from_address(ctypes.addressof(memory))  # the first word is the same after each seed
    memory_now = memoryview(position_and_word).cast("B").cast("Q")
    return lambda: (memory_now[0], generator.gauss_next)
