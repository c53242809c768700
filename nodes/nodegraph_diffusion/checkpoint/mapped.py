"""Tensors of a safetensors file, mapped into memory: read when they are touched, and given back when they are done with."""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64}


class MappedFile:
    """A file whose header was checked (`read_header`). What `tensor` gives stays valid after the file is closed."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            self._entries: dict[str, Any] = json.loads(file.read(length))
            self._start = 8 + length
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)

    def __enter__(self) -> MappedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass  # the map goes with the last tensor that lies in it

    def tensor(self, name: str) -> Tensor:
        """A tensor in the dtype of the file: its own pages, not a copy."""
        entry = self._entries[name]
        start, end = entry["data_offsets"]
        dtype = DTYPES[entry["dtype"]]
        if start == end:
            return torch.empty(entry["shape"], dtype=dtype)
        count = (end - start) // dtype.itemsize
        return torch.frombuffer(self._map, dtype=dtype, count=count, offset=self._start + start).reshape(entry["shape"])

    def release(self, name: str) -> None:
        """Give back the memory that reading a tensor took; its pages are read again if somebody touches them."""
        if not hasattr(mmap, "MADV_DONTNEED"):
            return  # Windows gives back what it needs
        start, end = (self._start + offset for offset in self._entries[name]["data_offsets"])
        start -= start % mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, start, end - start)
