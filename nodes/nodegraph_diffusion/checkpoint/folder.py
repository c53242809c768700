"""Folders in diffusers' layout: `model_index.json`, and a folder for each part with its config and weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nodegraph_diffusion.checkpoint.configs import Json, read_scheduler, read_text, read_unet, read_vae
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.model import Checkpoint, Part

T = TypeVar("T")

CLASSES: dict[Part, str] = {"unet": "UNet2DConditionModel", "vae": "AutoencoderKL", "text_encoder": "CLIPTextModel"}
WEIGHTS: dict[Part, str] = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
}
_OTHER_FOLDER = "Give the folder of a whole Stable Diffusion 1.x model, as `save_pretrained` of diffusers writes it."
_MAX_CONFIG_BYTES = 10_000_000


def detect_folder(path: Path) -> Checkpoint:
    """The checkpoint in the diffusers folder at `path`. CheckpointError unless it is whole and of a known kind."""
    index_file = path / "model_index.json"
    if not index_file.is_file():
        part = path / "config.json"
        found = f"a single part ({_read_json(part).get('_class_name', 'unknown')})" if part.is_file() else "none"
        raise CheckpointError(path, expected="a folder with model_index.json", found=found, hint=_OTHER_FOLDER)
    _check_parts(path, _read_json(index_file))

    configs = {part: path / part / "config.json" for part in CLASSES}
    scheduler = path / "scheduler" / "scheduler_config.json"
    weights = {part: _weights(path, part) for part in CLASSES}
    unet = _read_config(configs["unet"], read_unet)
    vae = _read_config(configs["vae"], read_vae)
    tokenizer = path / "tokenizer"
    if not tokenizer.is_dir():
        raise CheckpointError(path, expected="a folder 'tokenizer'", found="none", hint=_OTHER_FOLDER)
    vocabulary = tuple(sorted(file for file in tokenizer.iterdir() if file.is_file()))
    return Checkpoint(
        path=path,
        layout="diffusers",
        kind="sd1",
        unet=unet,
        vae=vae,
        text=_read_config(configs["text_encoder"], read_text),
        schedule=_read_config(scheduler, read_scheduler),
        sample_size=_read_config(configs["unet"], lambda config: int(config.get("sample_size") or 64)) * vae.factor,
        tokenizer=tokenizer,
        weights=weights,
        files=(index_file, *configs.values(), scheduler, *weights.values(), *vocabulary),
    )


def _check_parts(path: Path, index: Json) -> None:
    if "text_encoder_2" in index:
        expected, found = "a Stable Diffusion 1.x model", f"one with two text encoders ({index.get('_class_name')})"
        raise CheckpointError(path, expected=expected, found=found, hint=_OTHER_FOLDER)
    for part, class_name in CLASSES.items():
        entry = index.get(part)
        other = entry[1] if isinstance(entry, list) and len(entry) == 2 else None
        if other != class_name:
            expected = f"a part {part!r} of class {class_name}"
            found = f"{other or 'none'} in a {index.get('_class_name', 'folder without a class name')}"
            raise CheckpointError(path, expected=expected, found=found, hint=_OTHER_FOLDER)


def _weights(path: Path, part: Part) -> Path:
    """The part's weights: the standard file, else the half-precision variant."""
    standard = path / part / WEIGHTS[part]
    for file in (standard, standard.with_suffix(".fp16.safetensors")):
        if file.is_file():
            return file
    others = sorted(file.name for file in standard.parent.glob("*model*")) if standard.parent.is_dir() else []
    hint = "Pickles (.bin) are never opened: save it again with safe_serialization=True." if others else _OTHER_FOLDER
    found = ", ".join(others) or "no weights"
    raise CheckpointError(path, expected=f"{part}/{standard.name} (or .fp16)", found=found, hint=hint)


def _read_config(file: Path, read: Callable[[Json], T]) -> T:
    try:
        return read(_read_json(file))
    except (ValueError, KeyError, TypeError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        hint = "Only the networks of Stable Diffusion 1.x are supported."
        raise CheckpointError(file, expected="a config of Stable Diffusion 1.x", found=found, hint=hint) from error


def _read_json(file: Path) -> Json:
    try:
        with file.open("rb") as stream:
            content = json.loads(stream.read(_MAX_CONFIG_BYTES))
    except FileNotFoundError as error:
        raise CheckpointError(file, expected="a config", found="no file", hint=_OTHER_FOLDER) from error
    except (OSError, ValueError, RecursionError) as error:
        hint = "Download or copy the file again."
        raise CheckpointError(file, expected="a JSON config", found=str(error), hint=hint) from error
    if not isinstance(content, dict):
        hint = "Download or copy the file again."
        raise CheckpointError(file, expected="a JSON object", found=type(content).__name__, hint=hint)
    return content
