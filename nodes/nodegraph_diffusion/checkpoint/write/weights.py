"""A network's weights as tensors of a file: under their names there, joined, transposed and rounded as the file has them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields, is_dataclass
from pathlib import Path

import torch
from torch import Tensor

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.mapped_file import DTYPES
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece
from nodegraph_diffusion.checkpoint.write.stream import Made

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


def dtype_name(dtype: torch.dtype) -> str:
    """The safetensors name of a dtype of floats. Raises ValueError for other dtypes."""
    if dtype not in _NAMES:
        raise ValueError(f"expected weights in {', '.join(map(str, DTYPES.values()))}, found {dtype}")
    return _NAMES[dtype]


def made(state: Mapping[str, Tensor], pieces: Sequence[Piece], dtype: str, shape: Sequence[int] | None = None) -> Made:
    """The tensor of a file that holds these pieces of a network: one, or the thirds of a fused one. `shape`: that in the file."""
    ordered = sorted(pieces, key=lambda piece: piece.third or 0)
    tensors = [state[piece.key].detach() for piece in ordered]
    turned = [tensor.T if piece.transposed else tensor for tensor, piece in zip(tensors, ordered, strict=True)]
    if shape is None:
        shape = (sum(tensor.shape[0] for tensor in turned), *turned[0].shape[1:]) if len(turned) > 1 else turned[0].shape

    def data() -> memoryview | bytes:
        joined = torch.cat([tensor.to("cpu", DTYPES[dtype]) for tensor in turned]) if len(turned) > 1 else turned[0]
        flat = joined.to("cpu", DTYPES[dtype]).contiguous().reshape(-1)
        return flat.view(torch.uint8).numpy().data if flat.numel() else b""

    return Made(dtype, tuple(shape), data)


@contextmanager
def replaced_at_once(path: Path) -> Iterator[Path]:
    """A path to write to; the file there replaces `path` when the block ends, and is removed if it fails."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    try:
        yield partial
        with partial.open("rb+") as file:
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def require_read_back(path: Path, read: Callable[[], Sequence[object]], expected: Sequence[object], hint: str) -> None:
    """Raise ValueError unless a file that was just written is read as what it was written from: configs of these fields."""
    try:
        found = read()
    except CheckpointError as error:
        raise ValueError(f"{path}: expected a file that can be read again, found {error}; {hint}") from error
    for wanted, config in zip(expected, found, strict=True):
        if wanted != config:
            here, there = _fields(wanted), _fields(config)
            name = next((name for name in here if here[name] != there.get(name)), "")
            label = f"{type(wanted).__name__}.{name}"
            raise ValueError(f"{path}: such a file is read with {label} {there.get(name)}, expected {here.get(name)}; {hint}")


def _fields(config: object) -> dict[str, object]:
    return {field.name: getattr(config, field.name) for field in fields(config)} if is_dataclass(config) else {"": config}
