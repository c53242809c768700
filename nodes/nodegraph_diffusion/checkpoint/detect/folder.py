"""Folders in diffusers' layout: `model_index.json`, and for each part a folder with its config and weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from nodegraph_diffusion.checkpoint.detect.contents import class_contents, folder_contents, unreadable_format
from nodegraph_diffusion.checkpoint.detect.model import Checkpoint, UNetPart, VAEPart, Weights
from nodegraph_diffusion.checkpoint.detect.text_encoders import (
    AS_REQUESTED,
    TextSource,
    kind_by_config,
    read_text_encoders,
)
from nodegraph_diffusion.checkpoint.detect.unets import noise_schedule, unet_kind, unet_without_model
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.families import NAMES, SAME_PARTS, TEXT_PARTS, Kind, Naming, Part
from nodegraph_diffusion.checkpoint.files.header import HeaderCache
from nodegraph_diffusion.checkpoint.files.json_file import ConfigFile, Json, read_config, read_json
from nodegraph_diffusion.checkpoint.layouts.configs import read_scheduler, read_unet, read_vae
from nodegraph_diffusion.checkpoint.layouts.diffusers_folder import (
    CLASSES,
    CONFIG,
    INDEX,
    PICKLED,
    SCHEDULER_CONFIG,
    TOKENIZERS,
    VARIANTS,
    WEIGHTS,
)
from nodegraph_diffusion.checkpoint.layouts.other_families import READS, RUNS
from nodegraph_diffusion.networks.config import CLIPTextConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule

_ARTICLES = {"unet": "a UNet", "vae": "an autoencoder (VAE)", "text_encoder": "a text encoder"}
_OTHER_PART = "Give the folder of the part, or that of a whole model."
_OTHER_FOLDER = "Give the folder of a whole Stable Diffusion model, as `save_pretrained` of diffusers writes it."
_MAX_SIDE = 4096  # latent cells


def folder_models(path: Path, unet: UNetPart, vae: VAEPart, text_sources: tuple[TextSource, ...]) -> dict[Kind, Checkpoint]:
    """The whole model in a folder, by each family that it can be read as, its own first. Raises CheckpointError."""
    xl: Kind | None = None if unet.config.added_dim is None else "sdxl" if len(text_sources) > 1 else "sdxl-refiner"
    text = read_text_encoders(path, text_sources, xl)
    files = tuple(dict.fromkeys([path / INDEX, *unet.files, *vae.files, *text.files]))
    return {
        kind: Checkpoint(
            path=path,
            layout="diffusers",
            kind=kind,
            unet=replace(unet, kind=kind),
            vae=vae,
            text=replace(text, kind=kind),
            files=files,
            reason=f"{NAMES[kind]}, {text.reason if kind == text.kind else AS_REQUESTED}",
        )
        for kind in (text.kind, *SAME_PARTS.get(text.kind, ()))
    }


def require_parts(path: Path) -> None:
    """Raise CheckpointError unless the folder is a whole model, with parts of the classes of Stable Diffusion."""
    index = path / INDEX
    if index.is_file():
        _model_parts(path, read_json(index))
        return
    found = folder_contents(path)
    raise CheckpointError(
        path,
        expected=f"a folder with {INDEX}",
        found=found.name or "none",
        hint=found.hint if found.other_family else _OTHER_FOLDER,
        holds=found.content,
    )


def folder_unet(path: Path, headers: HeaderCache) -> UNetPart:
    """The UNet in a folder of a whole model or of a UNet. Raises CheckpointError if there is none, or a damaged one.

    Without a whole model, it predicts and denoises as is usual in its family.
    """
    model_folder, config_file = _part_config(path, "unet")
    config = config_file.parse(read_unet)
    weights = _weights(config_file.path.parent, "unet", "diffusers", headers)
    if model_folder is None:
        files = (config_file.path, *weights.paths)
        return unet_without_model(path, config=config, weights=weights, files=files, headers=headers)
    scheduler, vae = model_folder / SCHEDULER_CONFIG, model_folder / "vae" / CONFIG
    part = UNetPart(
        path=path,
        kind=unet_kind(config),
        config=config,
        weights=weights,
        noise_schedule=NoiseSchedule(),
        latent=read_config(vae).parse(read_vae).latent,
        files=(config_file.path, vae, *weights.paths),
        reason="its scheduler says what it predicts",
    )
    if scheduler.exists():
        files = (config_file.path, scheduler, vae, *weights.paths)
        return replace(part, noise_schedule=read_config(scheduler).parse(read_scheduler), files=files)
    schedule, reason = noise_schedule(weights, headers, part.kind, config)
    note = f"the folder has no {SCHEDULER_CONFIG}: the noise levels are those of {NAMES[part.kind]}, and {reason}"
    return replace(part, noise_schedule=schedule, reason=reason, notes=(note,))


def folder_vae(path: Path, headers: HeaderCache) -> VAEPart:
    """The autoencoder in a folder of a whole model or of an autoencoder. Raises CheckpointError if there is none."""
    model_folder, config_file = _part_config(path, "vae")
    config = config_file.parse(read_vae)
    weights = _weights(config_file.path.parent, "vae", "diffusers", headers)
    part = VAEPart(
        path=path,
        config=config,
        weights=weights,
        files=(config_file.path, *weights.paths),
        reason=f"its latents are multiplied by {config.scaling_factor}, as its config says",
    )
    if model_folder is None:
        return part
    unet = read_config(model_folder / "unet" / CONFIG)
    return replace(part, files=(*part.files, unet.path), trained_size=unet.parse(_sample_size) * config.factor)


def folder_text_sources(path: Path, headers: HeaderCache) -> tuple[TextSource, ...]:
    """The text encoders in a folder of a whole model or of a text encoder. Raises CheckpointError if there are none."""
    if not (path / INDEX).is_file():
        return (_text_source(path, "text_encoder", None, headers),)
    index = read_json(path / INDEX)
    parts = [part for part in _model_parts(path, index) if part in TEXT_PARTS]
    class_name = str(index.get("_class_name")).encode("unicode_escape").decode()  # safe for a terminal
    reason = f"as {INDEX} ({class_name}) and the configs say"
    return tuple(_text_source(path, part, reason, headers) for part in parts)


def _text_source(path: Path, part: Part, index_reason: str | None, headers: HeaderCache) -> TextSource:
    model_folder, config_file = _part_config(path, part)
    folder = config_file.path.parent
    weights = _weights(folder, part, "transformers", headers)
    files = (config_file.path, *weights.paths)
    tokenizer = None if model_folder is None else model_folder / TOKENIZERS[part]
    notes: tuple[str, ...] = ()
    vocabulary = () if tokenizer is None else _vocabulary_files(tokenizer)
    if vocabulary:
        files = (*files, *vocabulary)
    elif tokenizer is not None:
        if config_file.content.get("vocab_size") != CLIPTextConfig.vocab_size:
            raise CheckpointError(
                tokenizer,
                expected="the vocabulary of the text encoder, which is not CLIP's: vocab.json and merges.txt, or tokenizer.json",
                found="neither",
                hint="Copy them from the folder that the model comes from.",
            )
        notes = (f"the folder has no {tokenizer.name}: prompts are read with CLIP's vocabulary, that of all families",)
        tokenizer = None
    by_index = index_reason is not None
    return TextSource(
        path=path,
        weights=weights,
        files=files,
        sizes=config_file,
        kind="sdxl-refiner" if by_index and part == TEXT_PARTS[1] else kind_by_config(config_file.content),
        part=part if by_index else None,
        tokenizer=tokenizer,
        reason=index_reason or "as its config says",
        from_index=by_index,
        notes=notes,
    )


def _vocabulary_files(tokenizer: Path) -> tuple[Path, ...]:
    """The files of a tokenizer's folder; none if it is not there, or lacks the vocabulary."""
    files = {file.name: file for file in sorted(tokenizer.iterdir()) if file.is_file()} if tokenizer.is_dir() else {}
    is_whole = "tokenizer.json" in files or {"vocab.json", "merges.txt"} <= files.keys()
    return tuple(files.values()) if is_whole else ()


def _part_config(path: Path, part: Part) -> tuple[Path | None, ConfigFile]:
    """The folder of the whole model that contains a part, None if there is none; and the part's config.

    Raises CheckpointError if the config is one of another part.
    """
    is_model = (path / INDEX).is_file()
    folder = path / part if is_model else path
    config = read_config(folder / CONFIG)
    found = class_contents(config.content)
    wanted = "text_encoder" if part in TEXT_PARTS else part
    if found.content != wanted:
        name = found.name or str(config.content.get("_class_name", "an unknown class"))
        raise CheckpointError(
            folder, expected=f"a folder with {_ARTICLES[wanted]}", found=name, hint=_OTHER_PART, holds=found.content
        )
    if is_model:
        return path, config
    in_model = path.name == part and (path.parent / INDEX).is_file()
    return path.parent if in_model else None, config


def _model_parts(path: Path, index: Json) -> list[Part]:
    """The parts of a model: all, or all but one of the two text encoders. Raises CheckpointError if one has another class."""
    whole = class_contents(index)
    if whole.other_family:
        expected = "a Stable Diffusion model"
        raise CheckpointError(path, expected=expected, found=f"{whole.name} ({index['_class_name']})", hint=RUNS)
    classes = {part: entry[1] for part in CLASSES if isinstance(entry := index.get(part), list) and len(entry) == 2}
    text_parts = [part for part in TEXT_PARTS if classes.get(part)] or ["text_encoder"]
    parts: list[Part] = ["unet", "vae", *text_parts]
    for part in parts:
        found = classes.get(part)
        accepted = {CLASSES[part], CLASSES["text_encoder_2"]} if part in TEXT_PARTS else {CLASSES[part]}
        if found not in accepted:
            expected = f"a part {part!r} of class {CLASSES[part]}"
            name = f"{found or 'none'} in a {index.get('_class_name', 'folder without a class name')}"
            raise CheckpointError(path, expected=expected, found=name, hint=_OTHER_FOLDER)
    return parts


def _weights(folder: Path, part: Part, naming: Naming, headers: HeaderCache) -> Weights:
    """The part's weights. Raises CheckpointError if a file is missing, its header is damaged, or its format cannot be read."""
    paths = _weight_files(folder, part)
    for path in paths:
        if found := unreadable_format(headers.read(path)):
            name = _ARTICLES["text_encoder" if part in TEXT_PARTS else part]
            raise CheckpointError(path, expected=f"weights of {name}", found=found, hint=READS)
    return Weights(part, naming, paths)


def _weight_files(folder: Path, part: Part) -> tuple[Path, ...]:
    """The files of a part's weights, one or several shards: the standard ones, or else a variant."""
    standard = folder / WEIGHTS[part]
    pickled = standard.with_name(PICKLED[WEIGHTS[part]])
    for whole in (standard, pickled):
        for variant in ("", *VARIANTS):
            file = whole.with_suffix(f"{variant}{whole.suffix}")
            if file.is_file():
                return (file,)
            for index in (file.with_name(f"{file.name}.index.json"), _variant_index(whole, variant)):
                if index.is_file():
                    return _shards(index)
    others = sorted(file.name for file in folder.glob("*model*")) if folder.is_dir() else []
    found = ", ".join(others) or "no weights"
    expected = f"{standard.name} (or {', '.join(VARIANTS)}, or {pickled.name})"
    raise CheckpointError(folder, expected=expected, found=found, hint=_OTHER_FOLDER)


def _variant_index(whole: Path, variant: str) -> Path:
    """diffusers' name for the index of a variant's shards: the variant follows the word index."""
    return whole.with_name(f"{whole.name}.index{variant}.json")


def _shards(index: Path) -> tuple[Path, ...]:
    """The files that an index names. Raises CheckpointError if one is missing, or not in the same folder."""
    listed = read_json(index).get("weight_map")
    names = sorted({str(name) for name in listed.values()}) if isinstance(listed, dict) else []
    missing = [name for name in names if "/" in name or "\\" in name or not (index.parent / name).is_file()]
    if missing or not names:
        found = f"{len(missing)} missing ({missing[0]})" if missing else "no files named"
        hint = "Download or copy the missing files into the folder of the index."
        raise CheckpointError(index, expected=f"all {len(names)} files of weights", found=found, hint=hint)
    return tuple(index.parent / name for name in names)


def _sample_size(config: Json) -> int:
    """The native side in latent cells."""
    side = config.get("sample_size") or 64
    if type(side) is not int or not 1 <= side <= _MAX_SIDE:
        raise ValueError(f"sample_size is {side!r}, not 1 to {_MAX_SIDE}")
    return side
