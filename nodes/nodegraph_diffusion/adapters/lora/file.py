"""Adapter files: what they change, by their headers, and by how much, by what their trainers wrote down. Without torch."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodegraph_diffusion.adapters.lora.keys import Name, parse
from nodegraph_diffusion.checkpoint.detect.contents import folder_class, not_a
from nodegraph_diffusion.checkpoint.detect.model import Part
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import TensorInfo, read_header, read_metadata

PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
WEIGHTS = (PEFT_WEIGHTS, "pytorch_lora_weights.safetensors")  # what PEFT and diffusers call them in a folder

_METADATA = "lora_adapter_metadata"  # where diffusers puts PEFT's config, in the header
_MAX_CONFIG_BYTES = 10_000_000
_KINDS = ("LORA", "LOHA", "LOKR")

Config = Mapping[str, Any]


@dataclass(frozen=True)
class LoraFile:
    """What an adapter file changes: for each part of a model, by module, the names of its tensors by their roles.

    `scales` are by part and module what stands in the place of alpha / rank where that is said beside the tensors; `files` are
    all that it depends on, in a fixed order.
    """

    path: Path
    weights: Path
    changes: Mapping[Part, Mapping[str, Mapping[str, str]]]
    scales: Mapping[tuple[Part, str], float]
    tensors: Mapping[str, TensorInfo]
    files: tuple[Path, ...]


def read_lora(path: Path) -> LoraFile:
    """What the adapter at `path` holds, a file, or a folder that PEFT or diffusers wrote. Raises CheckpointError for any other."""
    weights = _weights(path)
    tensors = read_header(weights)
    changes: dict[Part, dict[str, dict[str, str]]] = {}
    names: dict[tuple[Part, str], Name] = {}
    unknown = []
    for key in tensors:
        name = parse(key)
        if name is None:
            unknown.append(key)
        else:
            changes.setdefault(name.part, {}).setdefault(name.module, {})[name.role] = key
            names[name.part, name.module] = name
    if not changes or len(unknown) > len(tensors) // 2:
        raise not_a("lora", path, tensors, "Give a file of one of these.")
    beside = weights.with_name(PEFT_CONFIG) if weights.name == PEFT_WEIGHTS else None
    files: tuple[Path, ...] = (weights,)
    if beside is not None and beside.is_file():
        files = (weights, beside)
        with beside.open("rb") as stream:
            config = _parsed(beside, stream.read(_MAX_CONFIG_BYTES))
    else:
        config = _header_config(weights)
    try:
        scales = {module: scale for module, name in names.items() if (scale := _scale(config, name)) is not None}
    except (TypeError, ValueError, AttributeError, OverflowError, re.error) as error:
        raise _damaged(path, str(error)) from error
    return LoraFile(path, weights, changes, scales, tensors, files)


def _weights(path: Path) -> Path:
    if not path.is_dir():
        return path
    for name in WEIGHTS:
        if (path / name).is_file():
            return path / name
    hint = "Give the file, or the folder that PEFT or diffusers wrote."
    found = folder_class(path)
    said, holds = ("neither", None) if found is None else (found.name, found.holds)
    raise CheckpointError(path, expected=f"{' or '.join(WEIGHTS)} in the folder", found=said, hint=hint, holds=holds)


def _header_config(weights: Path) -> Config:
    text = read_metadata(weights).get(_METADATA)
    return {} if text is None else _parsed(weights, text)


def _parsed(path: Path, text: str | bytes) -> Config:
    try:
        config = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise _damaged(path, str(error)) from error
    if not isinstance(config, dict):
        raise _damaged(path, type(config).__name__)
    return config


def _damaged(path: Path, found: str) -> CheckpointError:
    hint = "Only LoRA, LoHa and LoKr as PEFT saves them are supported; download or copy the file again if it is damaged."
    return CheckpointError(path, expected="a config of PEFT", found=found, hint=hint)


def _scale(config: Config, name: Name) -> float | None:
    """alpha / rank of a module by PEFT's config, or alpha / sqrt(rank) (Kalajdzievski 2023, rsLoRA, eq. 4).

    Diffusers writes the configs of several parts into one, each name behind that of the part. None where nothing is said.
    """
    part = f"{name.part}."
    ours = {key.removeprefix(part): value for key, value in config.items() if key.startswith(part)} or config
    kind = ours.get("peft_type", _KINDS[0])
    if kind not in _KINDS:
        raise ValueError(f"peft_type {kind!r}, none of {', '.join(_KINDS)}")
    alpha = _of_module(ours, "alpha_pattern", name.written, ours.get("lora_alpha", ours.get("alpha")))
    rank = _of_module(ours, "rank_pattern", name.written, ours.get("r"))
    if alpha is None or rank is None:
        return None
    scale = float(alpha) / (math.sqrt(rank) if ours.get("use_rslora") else float(rank)) if float(rank) > 0 else math.nan
    if not math.isfinite(scale):
        raise ValueError(f"alpha {alpha} and rank {rank} for {name.written!r}")
    return scale


def _of_module(config: Config, pattern: str, module: str, otherwise: Any) -> Any:
    """What the first pattern says that fits the end of the module's name, as PEFT matches them."""
    patterns = config.get(pattern) or {}
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), otherwise)
