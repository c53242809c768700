"""A pickle's tensors written as a safetensors file, one after another: nothing of the pickle is run, nothing is kept in memory."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from nodegraph_diffusion.checkpoint.files.header import read_stored
from nodegraph_diffusion.checkpoint.files.tensor_info import ITEM_SIZES, StoredTensor

_ALIGNMENT = 8  # bytes: the format has its tensors begin at a multiple


def convert(path: Path, new: Path) -> int:
    """Write the tensors of the file at `path`, a pickle or not, to `new` in their dtypes; returns how many there are.

    To call this is to allow the pickle. Views of one storage become tensors of their own. Raises CheckpointError, OSError.
    """
    tensors = read_stored(path, pickles=True)
    with path.open("rb") as file, new.open("wb") as out:
        out.write(_header(tensors))
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            for tensor in tensors.values():
                _write(out, content, tensor)
    return len(tensors)


def _header(tensors: Mapping[str, StoredTensor]) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in tensors.items():
        start, end = end, end + tensor.numbers * ITEM_SIZES[tensor.info.dtype]
        entries[name] = {"dtype": tensor.info.dtype, "shape": tensor.info.shape, "data_offsets": (start, end)}
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text = text.ljust(-(-len(text) // _ALIGNMENT) * _ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def _write(out: IO[bytes], content: mmap.mmap, tensor: StoredTensor) -> None:
    if tensor.strides is None:
        with memoryview(content) as data, data[tensor.start : tensor.end] as numbers:
            out.write(numbers)
    elif tensor.numbers:
        import numpy as np

        item = ITEM_SIZES[tensor.info.dtype]
        flat = np.frombuffer(content, f"u{item}", tensor.span, tensor.start)
        strides = [stride * item for stride in tensor.strides]
        out.write(np.lib.stride_tricks.as_strided(flat, tensor.info.shape, strides).tobytes())
