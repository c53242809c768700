"""A tensor's entry in the header of a file, whatever the file's format."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
"""Bytes of a number, by the safetensors name of its dtype."""

EIGHT_BIT_FLOATS = ("F8_E4M3", "F8_E5M2")
FLOATS = ("F16", "BF16", "F32", "F64", *EIGHT_BIT_FLOATS)
"""The dtypes of tensors that networks can be loaded from."""

_MAX_DIMENSIONS = 64  # PyTorch's limit


def are_sizes(numbers: Sequence[Any]) -> bool:
    """Whether the numbers can be a tensor's shape: few, none negative, none beyond any machine's memory."""
    for number in numbers:  # a loop, as `all` takes twice as long for each tensor of a large model
        if type(number) is not int or not 0 <= number < 1 << 62:
            return False
    return len(numbers) <= _MAX_DIMENSIONS


class TensorInfo(NamedTuple):
    """One tensor's dtype (by its safetensors name) and shape, and where its numbers are in the file.

    `start` is the byte of its first number. `strides` count numbers; None if the numbers follow each other.
    """

    dtype: str
    shape: tuple[int, ...]
    start: int = 0
    strides: tuple[int, ...] | None = None

    @property
    def size(self) -> int:
        """How many numbers the tensor has."""
        return math.prod(self.shape)

    @property
    def span(self) -> int:
        """How many numbers the file holds from the tensor's first to its last, including those of other tensors between them."""
        if self.strides is None or 0 in self.shape:
            return self.size
        return 1 + sum((side - 1) * stride for side, stride in zip(self.shape, self.strides, strict=True))

    @property
    def end(self) -> int:
        """The byte after the tensor's last number."""
        return self.start + self.span * ITEM_SIZES[self.dtype]
