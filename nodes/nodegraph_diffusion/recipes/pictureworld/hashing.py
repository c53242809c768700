"""Random choices by integer hashing: the same on every machine, and independent of any global generator.

The hash is the finaliser of SplitMix64 (Steele, Lea and Flood 2014, fig. 16) over 64-bit integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

_MASK = (1 << 64) - 1
_GOLDEN = 0x9E3779B97F4A7C15


def _mixed(number: int) -> int:
    """SplitMix64's mixing of one 64-bit integer."""
    number = ((number ^ (number >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    number = ((number ^ (number >> 27)) * 0x94D049BB133111EB) & _MASK
    return number ^ (number >> 31)


def hashed(*parts: int | str) -> int:
    """A 64-bit hash of integers and strings, which depends on their order."""
    state = 0
    for part in parts:
        number = part if isinstance(part, int) else int.from_bytes(part.encode(), "little")
        while True:
            state = _mixed((state + _GOLDEN + (number & _MASK)) & _MASK)
            number >>= 64
            if number in (0, -1):
                break
    return state


class Stream:
    """A stream of random choices that is determined by the parts it is made from."""

    def __init__(self, *parts: int | str) -> None:
        self._state = hashed(*parts)

    def bits(self) -> int:
        """The next 64 random bits."""
        self._state = (self._state + _GOLDEN) & _MASK
        return _mixed(self._state)

    def below(self, limit: int) -> int:
        """An integer from 0 to limit - 1."""
        return (self.bits() * limit) >> 64

    def between(self, low: int, high: int) -> int:
        """An integer from low to high, both included."""
        return low + self.below(high - low + 1)

    def choice(self, options: Sequence[T]) -> T:
        """One of the options, each equally likely."""
        return options[self.below(len(options))]

    def chance(self, percent: int) -> bool:
        """True in `percent` of 100 cases."""
        return self.below(100) < percent

    def weighted(self, options: dict[T, int]) -> T:
        """One of the options, as likely as its weight says."""
        rest = self.below(sum(options.values()))
        for option, weight in options.items():
            rest -= weight
            if rest < 0:
                return option
        raise ValueError(f"no option has a weight above 0: {options}")
