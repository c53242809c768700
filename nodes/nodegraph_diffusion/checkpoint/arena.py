"""One block of main memory for all tensors of a network."""

from __future__ import annotations

import contextlib
import math
import mmap

import torch
from torch import Tensor

ALIGNMENT = 64  # bytes: a line of the processor's cache, and what its widest registers like


class Arena:
    """A block of `size` bytes, from which tensors are cut in turn. It lives as long as the last of them.

    Where the system has huge pages, the block is made of these: gigabytes in pages of 4 KiB take seconds to be handed over.
    """

    def __init__(self, size: int) -> None:
        private = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}  # not on Windows
        self._block = mmap.mmap(-1, max(size, 1), **private)
        if hasattr(mmap, "MADV_HUGEPAGE"):
            with contextlib.suppress(OSError):  # a kernel built without them
                self._block.madvise(mmap.MADV_HUGEPAGE)
        self._used = 0

    @staticmethod
    def room(shape: tuple[int, ...], dtype: torch.dtype) -> int:
        """The bytes that a tensor takes from a block."""
        return -(-math.prod(shape) * dtype.itemsize // ALIGNMENT) * ALIGNMENT

    def empty(self, shape: tuple[int, ...], dtype: torch.dtype, layout: torch.memory_format) -> Tensor:
        """A tensor whose values nobody has set yet."""
        count = math.prod(shape)
        if not count:
            return torch.empty(shape, dtype=dtype)
        flat = torch.frombuffer(self._block, dtype=dtype, count=count, offset=self._used)
        self._used += self.room(shape, dtype)
        strides = torch.empty(shape, device="meta", dtype=dtype, memory_format=layout).stride()
        return flat.as_strided(shape, strides)
