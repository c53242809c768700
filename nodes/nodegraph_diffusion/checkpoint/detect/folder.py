"""Folders in diffusers' layout: `model_index.json`, and a folder for each part with its config and weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nodegraph_diffusion.checkpoint.detect.configs import Json, read_scheduler, read_text, read_unet, read_vae
from nodegraph_diffusion.checkpoint.detect.contents import class_of, folder_class
from nodegraph_diffusion.checkpoint.detect.ldm import impossible, readable_as
from nodegraph_diffusion.checkpoint.detect.model import (
    NAMES,
    TEXT_PARTS,
    Checkpoint,
    Kind,
    Part,
    TextEncoders,
    TextPart,
    UNetPart,
    VAEPart,
    Weights,
)
from nodegraph_diffusion.checkpoint.detect.parts import unet_alone, unet_kind
from nodegraph_diffusion.checkpoint.detect.text_encoders import alone_as, config_kind, only_part, unprojected
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.json_file import read_config, read_json

INDEX = "model_index.json"
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
_SCHEDULER = "scheduler/scheduler_config.json"
_ARTICLES = {"unet": "a UNet", "vae": "an autoencoder (VAE)", "text_encoder": "a text encoder"}
_OTHER_PART = "Give the folder of the part, or that of a whole model."
_LARGEST_SIDE = 4096  # latent cells
_OTHER_FOLDER = "Give the folder of a whole Stable Diffusion model, as `save_pretrained` of diffusers writes it."


def detect_folder(path: Path, kind: Kind | None = None) -> Checkpoint:
    """The checkpoint in the diffusers folder at `path`, read as a model of `kind` where that is given.

    CheckpointError unless it is whole and of a known kind, and of one that can be read so.
    """
    index_file = path / INDEX
    if not index_file.is_file():
        found = folder_class(path)
        raise CheckpointError(
            path,
            expected=f"a folder with {INDEX}",
            found="none" if found is None else found.name,
            hint=_OTHER_FOLDER,
            holds=found.holds if found else None,
        )
    parts = _parts(path, read_json(index_file))
    unet, vae = folder_unet(path), folder_vae(path)
    xl: Kind | None = None if unet.config.added_dim is None else "sdxl" if len(parts) == len(CLASSES) else "sdxl-refiner"
    text = folder_texts(path, xl)
    if kind is not None and not readable_as(text.kind, kind):
        raise impossible(path, kind, f"{NAMES[text.kind]}, {text.reason}")
    kind = kind or text.kind
    return Checkpoint(
        path=path,
        layout="diffusers",
        kind=kind,
        unet=replace(unet, kind=kind),
        vae=vae,
        text=replace(text, kind=kind),
        files=tuple(dict.fromkeys([index_file, *unet.files, *vae.files, *text.files])),
        reason=f"{NAMES[kind]}, {text.reason if kind == text.kind else 'as it was told to be'}",
    )


def folder_unet(path: Path) -> UNetPart:
    """The UNet in a diffusers folder, of a whole model or of it alone. Raises CheckpointError where there is none.

    One that lies alone is taken to predict what the like of it do, and to denoise in their latents.
    """
    whole, folder = _place(path, "unet")
    config_file = folder / "config.json"
    config = read_config(config_file, read_unet)
    weights = Weights("unet", "diffusers", _weights(folder, "unet"))
    if whole is None:
        return unet_alone(path, config, weights, (config_file, *weights.paths))
    scheduler, vae = whole / _SCHEDULER, whole / "vae" / "config.json"
    return UNetPart(
        path=path,
        kind=unet_kind(config),
        config=config,
        weights=weights,
        schedule=read_config(scheduler, read_scheduler),
        latent=read_config(vae, read_vae).latent,
        files=(config_file, scheduler, vae, *weights.paths),
        reason="it predicts what its scheduler says",
    )


def folder_vae(path: Path) -> VAEPart:
    """The autoencoder in a diffusers folder, of a whole model or of it alone. Raises CheckpointError where there is none."""
    whole, folder = _place(path, "vae")
    config_file = folder / "config.json"
    config = read_config(config_file, read_vae)
    weights = Weights("vae", "diffusers", _weights(folder, "vae"))
    reason = f"its latents are multiplied by {config.scaling_factor}, as its config says"
    files = (config_file, *weights.paths)
    if whole is None:
        return VAEPart(path, config, weights, files, reason)
    unet = whole / "unet" / "config.json"
    size = read_config(unet, _sample_size) * config.factor
    return VAEPart(path, config, weights, (*files, unet), reason, size)


def folder_texts(path: Path, kind: Kind | None = None, part: Part | None = None) -> TextEncoders:
    """The text encoders in a diffusers folder, read as those of a model of `kind`, or the `part` of these that lies there.

    Raises CheckpointError where there is none, or another number of them than such a model has.
    """
    if (path / INDEX).is_file():
        index = read_json(path / INDEX)
        parts = [part] if part else [there for there in _parts(path, index) if there in TEXT_PARTS]
        if len(parts) > 1 and (alone := only_part(kind)):
            parts = [alone]
        class_name = str(index.get("_class_name")).encode("unicode_escape").decode()  # for a terminal
        because = f"as {INDEX} ({class_name}) and the configs say"
        if len(parts) > 1:
            return TextEncoders(path, "sdxl", tuple(_text(path, there, "sdxl") for there in parts), because)
        config = path / parts[0] / "config.json"
        kind = kind or ("sdxl-refiner" if parts[0] == TEXT_PARTS[1] else config_kind(read_json(config)))
        return TextEncoders(path, kind, (_text(path, parts[0], kind),), because)
    config = path / "config.json"
    kind, role = alone_as(path, kind, part, lambda: config_kind(read_json(config)))
    return TextEncoders(path, kind, (_text(path, role, kind),), "as its config says")


def _text(path: Path, part: Part, kind: Kind) -> TextPart:
    """A text encoder in a diffusers folder, of a whole model or of it alone, as this part of a model of `kind`."""
    whole, folder = _place(path, part)
    config_file = folder / "config.json"
    config = read_config(config_file, lambda json: read_text(json, kind.startswith("sdxl")))
    if part == TEXT_PARTS[1] and config.projection is None:
        raise unprojected(path, config.width)
    weights = Weights(part, "transformers", _weights(folder, part))
    files = (config_file, *weights.paths)
    if whole is None:
        return TextPart(path, config, weights, files)
    tokenizer = whole / _TOKENIZERS[part]
    if not tokenizer.is_dir():
        raise CheckpointError(whole, expected=f"a folder '{tokenizer.name}'", found="none", hint=_OTHER_FOLDER)
    vocabulary = sorted(file for file in tokenizer.iterdir() if file.is_file())
    return TextPart(path, config, weights, (*files, *vocabulary), tokenizer)


def _place(path: Path, part: Part) -> tuple[Path | None, Path]:
    """The folder of the whole model that a part lies in (None: it lies alone), and the part's own.

    Raises CheckpointError where the config there is one of another part.
    """
    whole, folder = (path, path / part) if (path / INDEX).is_file() else (None, path)
    config = read_json(folder / "config.json")
    found = class_of(config)
    wanted = "text_encoder" if part in TEXT_PARTS else part
    if found is None or found.holds != wanted:
        said = str(config.get("_class_name", "an unknown class")) if found is None else found.name
        holds = found.holds if found else None
        raise CheckpointError(folder, expected=f"a folder with {_ARTICLES[wanted]}", found=said, hint=_OTHER_PART, holds=holds)
    if whole is None and path.name == part and (path.parent / INDEX).is_file():
        whole = path.parent
    return whole, folder


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


def _weights(folder: Path, part: Part) -> tuple[Path, ...]:
    """The part's weights, in one file or in shards: the standard ones, else the half-precision variant."""
    standard = folder / WEIGHTS[part]
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
    expected = f"{standard.name} (or .fp16, or {pickled.name})"
    raise CheckpointError(folder, expected=expected, found=found, hint=_OTHER_FOLDER)


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


def _sample_size(config: Json) -> int:
    """The native side in latent cells."""
    side = config.get("sample_size") or 64
    if type(side) is not int or not 1 <= side <= _LARGEST_SIDE:
        raise ValueError(f"sample_size is {side!r}, not 1 to {_LARGEST_SIDE}")
    return side
