"""Where the tensors of a file lie: what every format's header comes to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes of a number, by its dtype's safetensors name."""

_MOST_DIMENSIONS = 64  # PyTorch's limit


def are_sizes(numbers: Sequence[Any]) -> bool:
    """Whether they can be a tensor's shape: few of them, none below zero or beyond any machine's memory."""
    return len(numbers) <= _MOST_DIMENSIONS and all(type(number) is int and 0 <= number < 1 << 62 for number in numbers)


@dataclass(frozen=True)
class TensorInfo:
    """One tensor's dtype, by its safetensors name, and its shape."""

    dtype: str
    shape: tuple[int, ...]


class StoredTensor(NamedTuple):
    """A tensor in a file: `start` is the byte of its first number; `strides` count numbers, None: they follow each other."""

    info: TensorInfo
    start: int
    strides: tuple[int, ...] | None = None

    @property
    def numbers(self) -> int:
        """How many it has."""
        return math.prod(self.info.shape)

    @property
    def span(self) -> int:
        """How many numbers lie from its first to its last, those between them that are not its own included."""
        if self.strides is None or 0 in self.info.shape:
            return self.numbers
        return 1 + sum((side - 1) * stride for side, stride in zip(self.info.shape, self.strides, strict=True))

    @property
    def end(self) -> int:
        """The byte behind its last number."""
        return self.start + self.span * ITEM_SIZES[self.info.dtype]
