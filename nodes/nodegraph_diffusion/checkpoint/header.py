"""The header of a safetensors file, read and checked without its tensors and without torch.

Format: 8 bytes, the header's length as a little-endian integer; the header, a JSON object that gives for each tensor
its dtype, shape and byte range; then the tensors' bytes, which the ranges must cover without gap or overlap.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodegraph_diffusion.checkpoint.errors import CheckpointError

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit; Stable Diffusion's header has about 100 kB."""

_ITEM_SIZES = {
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3"), 1),
    **dict.fromkeys(("U16", "I16", "F16", "BF16"), 2),
    **dict.fromkeys(("U32", "I32", "F32"), 4),
    **dict.fromkeys(("U64", "I64", "F64"), 8),
}
_FORMATS = {"F16": "<e", "F32": "<f"}
_DOWNLOAD_AGAIN = "Download or copy the file again."
_NOT_A_CHECKPOINT = "Give a .safetensors file or a diffusers folder."


@dataclass(frozen=True)
class TensorInfo:
    """One tensor's dtype, by its safetensors name, and its shape."""

    dtype: str
    shape: tuple[int, ...]


def read_header(path: Path) -> dict[str, TensorInfo]:
    """The tensors of the safetensors file at `path`, by key. Raises CheckpointError unless header and size agree."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, 2)
            file.seek(0)
            start = file.read(9)
            length = int.from_bytes(start[:8], "little")
            _check_start(path, start, length, size)
            text = start[8:] + file.read(length - 1)
    except OSError as error:
        found = f"{type(error).__name__} ({error.strerror})"
        raise CheckpointError(path, expected="a readable file", found=found, hint=_NOT_A_CHECKPOINT) from error
    try:
        header = json.loads(text)
        if not isinstance(header, dict):
            raise TypeError(f"a {type(header).__name__} instead of an object")
        header.pop("__metadata__", None)
        ranges = sorted(_tensor(name, entry) for name, entry in header.items())
    except (ValueError, TypeError, RecursionError) as error:
        expected, found = "a header that lists tensors", f"a damaged one ({error})"
        raise CheckpointError(path, expected=expected, found=found, hint=_DOWNLOAD_AGAIN) from error
    _check_ranges(path, ranges, size - 8 - length)
    return {name: info for _, _, name, info in ranges}


def read_metadata(path: Path) -> dict[str, str]:
    """What the header of a safetensors file that `read_header` has read says besides its tensors."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    metadata = header.get("__metadata__")
    return metadata if isinstance(metadata, dict) else {}


def read_floats(path: Path, key: str) -> list[float]:
    """The numbers of one small tensor, in float16, bfloat16 or float32. Raises CheckpointError for other ones."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(length))[key]
        start, end = entry["data_offsets"]
        file.seek(8 + length + start)
        data = file.read(end - start)
    kind = entry["dtype"]
    if kind == "BF16":  # the upper half of a float32
        data, kind = b"".join(b"\0\0" + data[i : i + 2] for i in range(0, len(data), 2)), "F32"
    if kind not in _FORMATS:
        expected, hint = f"{key!r} in F16, BF16 or F32", "The file is damaged, or of another model."
        raise CheckpointError(path, expected=expected, found=kind, hint=hint)
    return [number for (number,) in struct.iter_unpack(_FORMATS[kind], data)]


def _check_start(path: Path, start: bytes, length: int, size: int) -> None:
    lists_tensors = start[8:] == b"{"  # a header of 640 bytes begins as a pickle does
    if not lists_tensors and start.startswith((b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")):
        raise CheckpointError(
            path,
            expected="a safetensors file",
            found="a PyTorch pickle (such as .ckpt, .pt or .bin)",
            hint="Pickles can run code and are never opened: convert it to .safetensors first.",
        )
    if size < 8 or length < 2 or length > MAX_HEADER_BYTES:
        found = "an empty file" if size == 0 else f"{size} bytes that do not begin like one"
        raise CheckpointError(path, expected="a safetensors file", found=found, hint=_NOT_A_CHECKPOINT)
    if length > size - 8:
        expected, found = f"a header of {length} bytes", f"only {size - 8}: not a safetensors file, or a truncated one"
        raise CheckpointError(path, expected=expected, found=found, hint=_DOWNLOAD_AGAIN)


def _tensor(name: str, entry: Mapping[str, Any]) -> tuple[int, int, str, TensorInfo]:
    """Start, end, name and description of a header's entry. Raises ValueError or TypeError where it makes no sense."""
    if not isinstance(entry, dict) or not entry.keys() >= {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"no dtype, shape and data_offsets for {name!r}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in _ITEM_SIZES:
        raise ValueError(f"unknown dtype {dtype!r} of {name!r}")
    if not all(isinstance(numbers, list) and all(type(n) is int and n >= 0 for n in numbers) for numbers in (shape, offsets)):
        raise ValueError(f"shape or data_offsets of {name!r} are no lists of sizes")
    start, end = offsets
    if end - start != math.prod(shape) * _ITEM_SIZES[dtype]:
        raise ValueError(f"{name!r} with shape {shape} of {dtype} does not fill bytes {start} to {end}")
    return start, end, name, TensorInfo(dtype, tuple(shape))


def _check_ranges(path: Path, ranges: list[tuple[int, int, str, TensorInfo]], data_bytes: int) -> None:
    position = 0
    for start, end, name, _ in ranges:
        if start != position:
            expected, found = f"tensors one after another ({name!r} at byte {position})", f"it at byte {start}"
            raise CheckpointError(path, expected=expected, found=found, hint=_DOWNLOAD_AGAIN)
        position = end
    if position != data_bytes:
        short = "the file is truncated" if data_bytes < position else "something was appended"
        expected, found = f"{position} bytes of tensors, as the header says", f"{data_bytes}: {short}"
        raise CheckpointError(path, expected=expected, found=found, hint=_DOWNLOAD_AGAIN)
