"""Tensors written to a safetensors file one after another, from other files or from memory, without holding all of them."""

from __future__ import annotations

import json
import mmap
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, NamedTuple

from nodegraph_diffusion.checkpoint.files.tensor_info import ITEM_SIZES, TensorInfo

_ALIGNMENT = 8  # bytes: in this format, tensors begin at a multiple of it


class Stored(NamedTuple):
    """A tensor of a file that is mapped into memory."""

    info: TensorInfo
    content: mmap.mmap


class Made(NamedTuple):
    """A tensor whose bytes `data` computes when its turn comes, of this dtype (by its safetensors name) and shape."""

    dtype: str
    shape: tuple[int, ...]
    data: Callable[[], bytes | memoryview]


def write_tensors(path: Path, tensors: Mapping[str, Stored | Made], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file with these tensors, in their order."""
    infos = {name: each.info if isinstance(each, Stored) else TensorInfo(each.dtype, each.shape) for name, each in tensors.items()}
    with path.open("wb") as out:
        out.write(_header(infos, metadata))
        for tensor in tensors.values():
            if isinstance(tensor, Stored):
                _copy(out, tensor.content, tensor.info)
            else:
                out.write(tensor.data())


def _header(tensors: Mapping[str, TensorInfo], metadata: Mapping[str, str]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.size * ITEM_SIZES[tensor.dtype]
        entries[name] = {"dtype": tensor.dtype, "shape": tensor.shape, "data_offsets": (start, end)}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // _ALIGNMENT) * _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _copy(out: IO[bytes], content: mmap.mmap, tensor: TensorInfo) -> None:
    if tensor.strides is None:
        with memoryview(content) as data, data[tensor.start : tensor.end] as numbers:
            out.write(numbers)
    elif tensor.size:
        import numpy as np

        item = ITEM_SIZES[tensor.dtype]
        flat = np.frombuffer(content, f"u{item}", tensor.span, tensor.start)
        strides = [stride * item for stride in tensor.strides]
        out.write(np.lib.stride_tricks.as_strided(flat, tensor.shape, strides).tobytes())
