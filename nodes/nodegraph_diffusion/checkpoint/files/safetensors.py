"""The header of a safetensors file.

Format: 8 bytes, the header's length as a little-endian integer; the header, a JSON object with the dtype, shape
and byte range of each tensor; then the tensors' bytes, which the ranges must cover without gap or overlap.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from nodegraph_diffusion.checkpoint.errors import DOWNLOAD_AGAIN, NOT_A_CHECKPOINT, CheckpointError
from nodegraph_diffusion.checkpoint.files.tensor_info import ITEM_SIZES, TensorInfo, are_sizes

MAX_HEADER_BYTES = 100_000_000
"""The format's own limit; Stable Diffusion's header has about 100 kB."""

_Range = tuple[int, int, str, str, tuple[int, ...]]


def read_safetensors(path: Path, file: IO[bytes]) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """The tensors of the open file in the order of their bytes, and its metadata.

    Raises CheckpointError unless the header is valid and agrees with the size of the file.
    """
    size = file.seek(0, 2)
    file.seek(0)
    length = int.from_bytes(file.read(8), "little")
    _check_length(path, length, size)
    try:
        header = json.loads(file.read(length), object_pairs_hook=_object)
        if not isinstance(header, dict):
            raise TypeError(f"a {type(header).__name__} instead of an object")
        metadata = header.pop("__metadata__", None)
        ranges = sorted(_tensor(name, entry) for name, entry in header.items())
    except (ValueError, TypeError, RecursionError) as error:
        expected, found = "a header that lists tensors", f"a damaged one ({error})"
        raise CheckpointError(path, expected=expected, found=found, hint=DOWNLOAD_AGAIN) from error
    first = 8 + length
    _check_ranges(path, ranges, size - first)
    tensors = {name: TensorInfo(dtype, shape, first + start) for start, _, name, dtype, shape in ranges}
    return tensors, metadata if isinstance(metadata, dict) else {}


def _check_length(path: Path, length: int, size: int) -> None:
    if size < 8 or length < 2 or length > MAX_HEADER_BYTES:
        found = "an empty file" if size == 0 else f"{size} bytes that do not begin like one"
        raise CheckpointError(path, expected="a safetensors file", found=found, hint=NOT_A_CHECKPOINT)
    if length > size - 8:
        expected, found = f"a header of {length} bytes", f"only {size - 8}: not a safetensors file, or a truncated one"
        raise CheckpointError(path, expected=expected, found=found, hint=DOWNLOAD_AGAIN)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object. Raises ValueError if a key occurs twice: readers disagree about which of the two counts."""
    content = dict(pairs)
    if len(content) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"{next(key for key in content if keys.count(key) > 1)!r} occurs twice")
    return content


def _tensor(name: str, entry: Mapping[str, Any]) -> _Range:
    """Start, end, name, dtype and shape of an entry of the header. Raises ValueError or TypeError for an invalid entry."""
    if not isinstance(entry, dict) or not entry.keys() >= {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"no dtype, shape and data_offsets for {name!r}")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if dtype not in ITEM_SIZES:
        raise ValueError(f"unknown dtype {dtype!r} of {name!r}")
    if not (isinstance(shape, list) and are_sizes(shape) and isinstance(offsets, list) and are_sizes(offsets)):
        raise ValueError(f"shape or data_offsets of {name!r} are not lists of sizes")
    start, end = offsets
    if end - start != math.prod(shape) * ITEM_SIZES[dtype]:
        raise ValueError(f"{name!r} with shape {shape} of {dtype} does not fill bytes {start} to {end}")
    name.encode()  # half of a surrogate pair is not text
    return start, end, name, dtype, tuple(shape)


def _check_ranges(path: Path, ranges: list[_Range], data_bytes: int) -> None:
    position = 0
    for start, end, name, *_ in ranges:
        if start != position:
            expected, found = f"tensors one after another ({name!r} at byte {position})", f"it at byte {start}"
            raise CheckpointError(path, expected=expected, found=found, hint=DOWNLOAD_AGAIN)
        position = end
    if position != data_bytes:
        short = "the file is truncated" if data_bytes < position else "something was appended"
        expected, found = f"{position} bytes of tensors, as the header says", f"{data_bytes}: {short}"
        raise CheckpointError(path, expected=expected, found=found, hint=DOWNLOAD_AGAIN)
