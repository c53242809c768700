"""A pickle's tensors written as a safetensors file, one after another: without running the pickle or holding it in memory."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from nodegraph_diffusion.checkpoint.files.header import read_header
from nodegraph_diffusion.checkpoint.files.tensor_info import ITEM_SIZES, TensorInfo

_ALIGNMENT = 8  # bytes: in this format, tensors begin at a multiple of it


def convert(path: Path, new: Path) -> int:
    """Write the tensors of the file at `path`, a pickle or not, to `new` in their dtypes; returns how many there are.

    Calling this allows the pickle. Views of one storage become separate tensors. Raises CheckpointError, OSError.
    """
    tensors = read_header(path, allow_pickles=True).tensors
    with path.open("rb") as file, new.open("wb") as out:
        out.write(_header(tensors))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for tensor in tensors.values():
                _write(out, content, tensor)
    return len(tensors)


def _header(tensors: Mapping[str, TensorInfo]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.size * ITEM_SIZES[tensor.dtype]
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (start, end)}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // _ALIGNMENT) * _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write(out: IO[bytes], content: mmap.mmap, tensor: TensorInfo) -> None:
    if tensor.strides is None:
        with memoryview(content) as data, data[tensor.start : tensor.end] as numbers:
            out.write(numbers)
    elif tensor.size:
        import numpy as np

        item = ITEM_SIZES[tensor.dtype]
        flat = np.frombuffer(content, f"u{item}", tensor.span, tensor.start)
        strides = [stride * item for stride in tensor.strides]
        out.write(np.lib.stride_tricks.as_strided(flat, tensor.shape, strides).tobytes())
