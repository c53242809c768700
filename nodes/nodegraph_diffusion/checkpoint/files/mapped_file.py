"""The tensors of a file, mapped into memory: pages are read on first use, and can be given back after it."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from nodegraph_diffusion.checkpoint.files.header import read_header

DTYPES = {
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
}
_INTEGERS = {  # of numbers beside the factors of adapters
    "BOOL": torch.bool,
    **{f"I{bits}": getattr(torch, f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"U{bits}": getattr(torch, f"uint{bits}") for bits in (8, 16, 32, 64)},
}


class MappedFile:
    """A file of tensors, mapped into memory. Its tensors stay valid after it is closed.

    Raises CheckpointError as `read_header` does.
    """

    def __init__(self, path: Path) -> None:
        self.header = read_header(path)
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def __enter__(self) -> MappedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass  # the map is freed with the last tensor that uses it

    def tensor(self, name: str) -> Tensor:
        """A tensor in the dtype of the file: its own pages, not a copy."""
        info = self.header.tensors[name]
        dtype = DTYPES[info.dtype] if info.dtype in DTYPES else _INTEGERS[info.dtype]
        if not info.span:
            return torch.empty(info.shape, dtype=dtype)
        numbers = torch.frombuffer(self._map, dtype=dtype, count=info.span, offset=info.start)
        return numbers.reshape(info.shape) if info.strides is None else numbers.as_strided(info.shape, info.strides)

    def release(self, name: str) -> None:
        """Give back the memory that reading a tensor took. Its pages are read again if they are used again."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return  # Windows frees pages itself when memory runs short
        info = self.header.tensors[name]
        start = info.start - info.start % mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, start, info.end - start)
