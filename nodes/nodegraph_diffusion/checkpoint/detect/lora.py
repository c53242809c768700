"""LoRA files and related formats: headers show what they change, and the trainer's config by how much."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodegraph_diffusion.checkpoint.detect.contents import Contents, file_contents, file_refusal, folder_contents
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.families import Part
from nodegraph_diffusion.checkpoint.files.header import Header, HeaderCache
from nodegraph_diffusion.checkpoint.files.tensor_info import TensorInfo
from nodegraph_diffusion.checkpoint.layouts.lora import LoraName, parse_name

PEFT_WEIGHTS, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"
WEIGHTS = (PEFT_WEIGHTS, "pytorch_lora_weights.safetensors")  # PEFT's and diffusers' names for them in a folder

_METADATA = "lora_adapter_metadata"  # where diffusers puts PEFT's config, in the header
_MAX_CONFIG_BYTES = 10_000_000
_KINDS = ("LORA", "LOHA", "LOKR")

Config = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class LoraFile:
    """The changes in a LoRA file: for each part of a model and each module, the names of its tensors by their roles.

    `scales` are, by part and module, the factors that replace alpha / rank, if the trainer's config gives them. `files` are all
    files that affect the result, in a fixed order.
    """

    path: Path
    weights: Path
    changes: Mapping[Part, Mapping[str, Mapping[str, str]]]
    scales: Mapping[tuple[Part, str], float]
    tensors: Mapping[str, TensorInfo]
    files: tuple[Path, ...]


def folder_lora(folder: Path, headers: HeaderCache) -> LoraFile:
    """The LoRA in a folder that PEFT or diffusers wrote. Raises CheckpointError for other folders."""
    name = next((name for name in WEIGHTS if (folder / name).is_file()), None)
    if name is None:
        found = folder_contents(folder)
        raise CheckpointError(
            folder,
            expected=f"{' or '.join(WEIGHTS)} in the folder",
            found=found.name or "neither",
            hint="Give the file, or the folder that PEFT or diffusers wrote.",
            holds=found.content,
        )
    header = headers.read(folder / name)
    return file_lora(header, file_contents(header.tensors), folder)


def file_lora(header: Header, contents: Contents, folder: Path | None = None) -> LoraFile:
    """The LoRA in a file, which is in a `folder` of PEFT or diffusers or separate. Raises CheckpointError for other files."""
    path, tensors = folder or header.path, header.tensors
    names = {key: name for key in tensors if (name := parse_name(key)) is not None}
    if not names or len(names) < len(tensors) - len(tensors) // 2:
        raise file_refusal("lora", path, tensors, found=contents, hint="Give a file of one of these.")
    changes: dict[Part, dict[str, dict[str, str]]] = {}
    for key, name in names.items():
        changes.setdefault(name.part, {}).setdefault(name.module, {})[name.role] = key
    config, files = _peft_config(header)
    try:
        modules = {(name.part, name.module): name for name in names.values()}
        scales = {module: scale for module, name in modules.items() if (scale := _scale(config, name)) is not None}
    except (TypeError, ValueError, AttributeError, OverflowError, re.error) as error:
        raise _config_error(path, str(error)) from error
    return LoraFile(path=path, weights=header.path, changes=changes, scales=scales, tensors=tensors, files=files)


def _peft_config(header: Header) -> tuple[Config, tuple[Path, ...]]:
    """PEFT's config, from the file beside the weights or from their header, and the files that it and the weights are in."""
    config_file = header.path.with_name(PEFT_CONFIG)
    if header.path.name == PEFT_WEIGHTS and config_file.is_file():
        with config_file.open("rb") as stream:
            return _parse_config(config_file, stream.read(_MAX_CONFIG_BYTES)), (header.path, config_file)
    text = header.metadata.get(_METADATA)
    return {} if text is None else _parse_config(header.path, text), (header.path,)


def _parse_config(path: Path, text: str | bytes) -> Config:
    try:
        config = json.loads(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise _config_error(path, str(error)) from error
    if not isinstance(config, dict):
        raise _config_error(path, type(config).__name__)
    return config


def _config_error(path: Path, found: str) -> CheckpointError:
    hint = "Only LoRA, LoHa and LoKr as PEFT saves them are supported; download or copy the file again if it is damaged."
    return CheckpointError(path, expected="a config of PEFT", found=found, hint=hint)


def _scale(config: Config, name: LoraName) -> float | None:
    """alpha / rank of a module by PEFT's config, or alpha / sqrt(rank) (Kalajdzievski 2023, rsLoRA, eq. 4).

    Diffusers writes the configs of several parts into one, each key after the name of the part. None if the config gives no scale.
    """
    part = f"{name.part}."
    settings = {key.removeprefix(part): value for key, value in config.items() if key.startswith(part)} or config
    kind = settings.get("peft_type", _KINDS[0])
    if kind not in _KINDS:
        raise ValueError(f"peft_type {kind!r}, not one of {', '.join(_KINDS)}")
    alpha = _value_for_module(settings, "alpha_pattern", name.written, settings.get("lora_alpha", settings.get("alpha")))
    rank = _value_for_module(settings, "rank_pattern", name.written, settings.get("r"))
    if alpha is None or rank is None:
        return None
    scale = float(alpha) / (math.sqrt(rank) if settings.get("use_rslora") else float(rank)) if float(rank) > 0 else math.nan
    if not math.isfinite(scale):
        raise ValueError(f"alpha {alpha} and rank {rank} for {name.written!r}")
    return scale


def _value_for_module(config: Config, pattern: str, module: str, default: Any) -> Any:
    """The value of the first pattern that matches the end of the module's name, as PEFT matches them; or the default."""
    patterns = config.get(pattern) or {}
    return next((value for key, value in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)
