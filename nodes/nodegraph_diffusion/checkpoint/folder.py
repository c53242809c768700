"""Folders in diffusers' layout: `model_index.json`, and a folder for each part with its config and weights."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nodegraph_diffusion.checkpoint.configs import Json, read_scheduler, read_text, read_unet, read_vae
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.model import NAMES, TEXT_PARTS, Checkpoint, Kind, Part

T = TypeVar("T")

CLASSES: dict[Part, str] = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
}
WEIGHTS: dict[Part, str] = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "text_encoder_2": "model.safetensors",
}
PICKLED = {"diffusion_pytorch_model.safetensors": "diffusion_pytorch_model.bin", "model.safetensors": "pytorch_model.bin"}
"""What the files of weights were called when they were pickles."""

_TOKENIZERS: dict[Part, str] = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
_OTHER_FOLDER = "Give the folder of a whole Stable Diffusion model, as `save_pretrained` of diffusers writes it."
_MAX_CONFIG_BYTES = 10_000_000
_LARGEST_SIDE = 4096  # latent cells


def detect_folder(path: Path) -> Checkpoint:
    """The checkpoint in the diffusers folder at `path`. CheckpointError unless it is whole and of a known kind."""
    index_file = path / "model_index.json"
    if not index_file.is_file():
        part = path / "config.json"
        found = f"a single part ({read_json(part).get('_class_name', 'unknown')})" if part.is_file() else "none"
        raise CheckpointError(path, expected="a folder with model_index.json", found=found, hint=_OTHER_FOLDER)
    index = read_json(index_file)
    parts = _parts(path, index)
    class_name = str(index.get("_class_name")).encode("unicode_escape").decode()  # for a terminal

    configs = {part: path / part / "config.json" for part in parts}
    scheduler = path / "scheduler" / "scheduler_config.json"
    weights = {part: _weights(path, part) for part in parts}
    unet = _read_config(configs["unet"], read_unet)
    vae = _read_config(configs["vae"], read_vae)
    xl = unet.added_dim is not None
    texts = tuple(_read_config(configs[part], lambda json: read_text(json, xl)) for part in TEXT_PARTS if part in parts)
    folders = [path / _TOKENIZERS[part] for part in TEXT_PARTS if part in parts]
    for folder in folders:
        if not folder.is_dir():
            raise CheckpointError(path, expected=f"a folder '{folder.name}'", found="none", hint=_OTHER_FOLDER)
    vocabulary = sorted(file for folder in folders for file in folder.iterdir() if file.is_file())
    kind: Kind = ("sdxl" if len(texts) == 2 else "sdxl-refiner") if xl else "sd1" if texts[0].activation == "quick_gelu" else "sd2"
    files = [index_file, *configs.values(), scheduler, *(file for part in weights.values() for file in part), *vocabulary]
    return Checkpoint(
        path=path,
        layout="diffusers",
        kind=kind,
        unet=unet,
        vae=vae,
        texts=texts,
        schedule=_read_config(scheduler, read_scheduler),
        sample_size=_read_config(configs["unet"], _sample_size) * vae.factor,
        tokenizers=tuple(folders),
        weights=weights,
        files=tuple(files),
        reason=f"{NAMES[kind]}, as model_index.json ({class_name}) and the configs say",
    )


def _parts(path: Path, index: Json) -> list[Part]:
    """The parts that a model is made of: all but a text encoder that is absent, of the two that there may be."""
    classes = {part: entry[1] for part in CLASSES if isinstance(entry := index.get(part), list) and len(entry) == 2}
    texts = [part for part in TEXT_PARTS if classes.get(part)] or ["text_encoder"]
    parts: list[Part] = ["unet", "vae", *texts]
    for part in parts:
        found = classes.get(part)
        accepted = {CLASSES[part], CLASSES["text_encoder_2"]} if part in TEXT_PARTS else {CLASSES[part]}
        if found not in accepted:
            expected = f"a part {part!r} of class {CLASSES[part]}"
            said = f"{found or 'none'} in a {index.get('_class_name', 'folder without a class name')}"
            raise CheckpointError(path, expected=expected, found=said, hint=_OTHER_FOLDER)
    return parts


def _weights(path: Path, part: Part) -> tuple[Path, ...]:
    """The part's weights, in one file or in shards: the standard ones, else the half-precision variant."""
    standard = path / part / WEIGHTS[part]
    pickled = standard.with_name(PICKLED[WEIGHTS[part]])
    for whole in (standard, pickled):
        for file in (whole, whole.with_suffix(f".fp16{whole.suffix}")):
            if file.is_file():
                return (file,)
            for index in (file.with_name(f"{file.name}.index.json"), _variant_index(file)):
                if index.is_file():
                    return _shards(index)
    others = sorted(file.name for file in standard.parent.glob("*model*")) if standard.parent.is_dir() else []
    found = ", ".join(others) or "no weights"
    expected = f"{part}/{standard.name} (or .fp16, or {pickled.name})"
    raise CheckpointError(path, expected=expected, found=found, hint=_OTHER_FOLDER)


def _variant_index(file: Path) -> Path:
    """Where diffusers puts the index of a variant's shards: the variant behind the word index."""
    name = file.name.replace(f".fp16{file.suffix}", f"{file.suffix}.index.fp16.json")
    return file.with_name(name if name != file.name else f"{file.name}.index.json")


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names. Raises CheckpointError where one is not there, or is no name in the same folder."""
    listed = read_json(index).get("weight_map")
    names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
    missing = [name for name in names if "/" in name or "\\" in name or not (index.parent / name).is_file()]
    if missing or not names:
        found = f"{len(missing)} missing ({missing[0]})" if missing else "no files named"
        hint = "Download or copy the missing files; all lie beside the index."
        raise CheckpointError(index, expected=f"all {len(names)} files of weights", found=found, hint=hint)
    return tuple(index.parent / name for name in names)


def _read_config(file: Path, read: Callable[[Json], T]) -> T:
    try:
        return read(read_json(file))
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        hint = "Only the networks of Stable Diffusion 1, 2 and XL are supported."
        raise CheckpointError(file, expected="a config of Stable Diffusion", found=found, hint=hint) from error


def read_json(file: Path) -> Json:
    """The JSON object in the config at `file`. Raises CheckpointError for anything else, NaN and infinities included."""
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise CheckpointError(file, expected="a config", found="something that is no file", hint=_OTHER_FOLDER)
        with file.open("rb") as stream:
            content = json.loads(stream.read(_MAX_CONFIG_BYTES), parse_constant=_finite, parse_float=_finite)
    except FileNotFoundError as error:
        raise CheckpointError(file, expected="a config", found="no file", hint=_OTHER_FOLDER) from error
    except (OSError, ValueError, RecursionError) as error:
        hint = "Download or copy the file again."
        raise CheckpointError(file, expected="a JSON config", found=str(error), hint=hint) from error
    if not isinstance(content, dict):
        hint = "Download or copy the file again."
        raise CheckpointError(file, expected="a JSON object", found=type(content).__name__, hint=hint)
    return content


def _sample_size(config: Json) -> int:
    """The native side in latent cells."""
    side = config.get("sample_size") or 64
    if type(side) is not int or not 1 <= side <= _LARGEST_SIDE:
        raise ValueError(f"sample_size is {side!r}, not 1 to {_LARGEST_SIDE}")
    return side


def _finite(text: str) -> float:
    """The number that JSON says, unless it is NaN or infinite, in words or by its size."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text}, which is no number")
    return number
