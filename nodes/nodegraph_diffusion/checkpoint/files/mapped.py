"""Tensors of a file, mapped into memory: read when they are touched, and given back when they are done with."""

from __future__ import annotations

import mmap
from pathlib import Path
from types import TracebackType

import torch
from torch import Tensor

from nodegraph_diffusion.checkpoint.files.header import read_stored

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


class MappedFile:
    """A file of tensors (`read_stored`, which raises CheckpointError). What `tensor` gives stays valid after it is closed."""

    def __init__(self, path: Path) -> None:
        self._stored = read_stored(path)
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def __enter__(self) -> MappedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass  # the map goes with the last tensor that lies in it

    def tensor(self, name: str) -> Tensor:
        """A tensor in the dtype of the file: its own pages, not a copy."""
        info, start, strides = stored = self._stored[name]
        dtype = DTYPES[info.dtype]
        if not stored.span:
            return torch.empty(info.shape, dtype=dtype)
        numbers = torch.frombuffer(self._map, dtype=dtype, count=stored.span, offset=start)
        return numbers.reshape(info.shape) if strides is None else numbers.as_strided(info.shape, strides)

    def release(self, name: str) -> None:
        """Give back the memory that reading a tensor took; its pages are read again if somebody touches them."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return  # Windows gives back what it needs
        stored = self._stored[name]
        start = stored.start - stored.start % mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, start, stored.end - start)
