"""The file from which a run continues: tensors in safetensors, and everything else as JSON in its header. No pickle."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_RECORD = "training"
_CHECKSUM = "checksum"


class DamagedStateError(ValueError):
    """A file does not have the state of a training run that was written to it."""

    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path}: expected the saved state of a training run, found another file or a damaged one; remove it to begin anew"
        )


def write_state(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Replace the file at once: who reads it, or continues after a kill or a power failure, finds the old one or the new one."""
    copies = {name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    save_file(copies, partial, metadata=_metadata(copies, json.dumps(record)))
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors and the record of a file; None if there is none. Raises DamagedStateError."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            record: dict[str, Any] = json.loads(metadata[_RECORD])
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedStateError(path) from error
    if _CHECKSUM in metadata and metadata != _metadata(tensors, metadata[_RECORD]):  # earlier versions wrote none
        raise DamagedStateError(path)
    return tensors, record


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a file without its tensors; None if there is no file. Raises DamagedStateError."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record: dict[str, Any] = json.loads((file.metadata() or {})[_RECORD])
            return record
    except (SafetensorError, KeyError, ValueError) as error:
        raise DamagedStateError(path) from error


def _metadata(tensors: Mapping[str, Tensor], record: str) -> dict[str, str]:
    """What the header says besides names and shapes. The checksum tells whether a disk has kept what was written."""
    checksum = zlib.crc32(record.encode())
    for name in sorted(tensors):
        data = memoryview(tensors[name].reshape(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]
        checksum = zlib.crc32(data, zlib.crc32(name.encode(), checksum))
    return {"format": "pt", _RECORD: record, _CHECKSUM: f"{checksum:08x}"}
