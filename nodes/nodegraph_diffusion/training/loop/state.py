"""The file from which a run continues: tensors in safetensors, and everything else as JSON in its header. No pickle."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

_RECORD = "training"


def write_state(path: Path, tensors: Mapping[str, Tensor], record: Mapping[str, Any]) -> None:
    """Replace the file at once: who reads it, or continues after a kill or a power failure, finds the old one or the new one."""
    copies = {name: tensor.detach().to("cpu").clone(memory_format=torch.contiguous_format) for name, tensor in tensors.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.partial")
    save_file(copies, partial, metadata={"format": "pt", _RECORD: json.dumps(record)})
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def read_state(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
    """The tensors and the record of a file; None if there is none. Raises ValueError if it is not such a file."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record = json.loads((file.metadata() or {})[_RECORD])
            return {name: file.get_tensor(name) for name in file.keys()}, record  # noqa: SIM118 (not a mapping)
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the saved state of a training run, found another file; remove it to begin anew"
        ) from error


def read_record(path: Path) -> dict[str, Any] | None:
    """The record of a file without its tensors; None if there is no file. Raises ValueError if it is not such a file."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            record: dict[str, Any] = json.loads((file.metadata() or {})[_RECORD])
            return record
    except (SafetensorError, KeyError, ValueError) as error:
        raise ValueError(
            f"{path}: expected the saved state of a training run, found another file; remove it to begin anew"
        ) from error
