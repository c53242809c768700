"""Single files of whole models, in LDM's layout, and of parts of models."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from nodegraph_diffusion.checkpoint.detect.contents import Contents, class_contents, file_refusal, first_names
from nodegraph_diffusion.checkpoint.detect.model import Checkpoint, TextEncoders, TextPart, UNetPart, VAEPart, Weights
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes
from nodegraph_diffusion.checkpoint.detect.sizes import diffusers_unet_config, ldm_unet_config, vae_config
from nodegraph_diffusion.checkpoint.detect.sources import ignored_note
from nodegraph_diffusion.checkpoint.detect.text_encoders import (
    AS_REQUESTED,
    WIDTH_2,
    TextPrefix,
    TextSource,
    find_prefixes,
    kind_by_config,
    kind_by_shapes,
    naming_below,
    text_config,
)
from nodegraph_diffusion.checkpoint.detect.trained import trained_unet, trained_vae
from nodegraph_diffusion.checkpoint.detect.unets import noise_schedule, unet_without_model
from nodegraph_diffusion.checkpoint.errors import CheckpointError, Content
from nodegraph_diffusion.checkpoint.families import NAMES, SAME_PARTS, TEXT_PARTS, Kind, Naming, scaling_factor
from nodegraph_diffusion.checkpoint.files.header import Header, HeaderCache
from nodegraph_diffusion.checkpoint.files.json_file import ConfigFile, Json, read_config
from nodegraph_diffusion.checkpoint.layouts.configs import read_unet, read_vae
from nodegraph_diffusion.checkpoint.layouts.diffusers_folder import CONFIG
from nodegraph_diffusion.checkpoint.layouts.ldm import PREFIXES, TEXT_PREFIXES, UNET_PREFIX, UNUSED, VAE_PREFIX

T = TypeVar("T")

Layouts = tuple[tuple[Naming, str, tuple[str, ...]], ...]

_UNETS: Layouts = (
    ("ldm", UNET_PREFIX, ("input_blocks.", "middle_block.", "output_blocks.")),
    ("ldm", "", ("input_blocks.", "middle_block.", "output_blocks.")),
    ("diffusers", "", ("down_blocks.", "mid_block.", "up_blocks.")),
)
_VAES: Layouts = (
    ("ldm", VAE_PREFIX, ("encoder.", "decoder.")),
    ("ldm", "", ("encoder.down.", "decoder.up.")),
    ("diffusers", "", ("encoder.down_blocks.", "decoder.up_blocks.")),
)
_WHOLE_MODEL = "Give the file of a whole Stable Diffusion 1, 2 or XL model."
_ANOTHER_FILE = "Give a file that has one."


def file_models(header: Header, contents: Contents, headers: HeaderCache) -> dict[Kind, Checkpoint]:
    """The whole model in a file, by each family that it can be read as, its own first. Raises CheckpointError for other files."""
    layout, because = _layout(header, contents)
    notes = ignored_note(_ignored(header, layout))
    kind = layout
    if layout == "sd1" and kind_by_shapes(Shapes(header, PREFIXES[layout]["text_encoder"])) == "sd2":
        kind, because = "sd2", f"{because} and is {WIDTH_2} wide"
    models = {kind: replace(_model(header, layout, headers, kind=kind, because=because), notes=notes)}
    for other in SAME_PARTS.get(kind, ()):
        try:
            models[other] = replace(_model(header, layout, headers, kind=other, because=AS_REQUESTED), notes=notes)
        except CheckpointError:  # what is missing matters only to the other family
            continue
    return models


def file_unet(header: Header, contents: Contents, headers: HeaderCache) -> UNetPart:
    """The UNet in a file that is not a whole model. Raises CheckpointError if it has none, or a broken one."""
    if (trained := trained_unet(header)) is not None:
        return trained
    naming, prefix = _find("unet", header, contents, _UNETS)
    sizes = ldm_unet_config if naming == "ldm" else diffusers_unet_config
    config_file = _config_beside(header.path, "unet") if naming == "diffusers" else None
    config = _config(config_file, read_unet, header.path, lambda: sizes(Shapes(header, prefix)))
    weights = Weights("unet", naming, (header.path,), prefix)
    files = _files(header, config_file)
    return unet_without_model(header.path, config=config, weights=weights, files=files, headers=headers)


def file_vae(header: Header, contents: Contents) -> VAEPart:
    """The autoencoder in a file that is not a whole model. Raises CheckpointError if it has none, or a broken one."""
    if (trained := trained_vae(header)) is not None:
        return trained
    naming, prefix = _find("vae", header, contents, _VAES)
    xl = any(key.startswith((f"{UNET_PREFIX}label_emb.", TEXT_PREFIXES[1])) for key in header.tensors)
    scaling = scaling_factor("sdxl" if xl else "sd1")
    config_file = _config_beside(header.path, "vae") if naming == "diffusers" else None
    config = _config(config_file, read_vae, header.path, lambda: vae_config(Shapes(header, prefix), naming, scaling))
    if xl:
        because = "as in its family"
    elif config_file is not None:
        because = "as its config says"
    else:
        because = "as in Stable Diffusion 1 and 2: an autoencoder's file does not say it, and XL's has the same shapes"
    reason = f"its latents are multiplied by {config.scaling_factor}, {because}"
    weights = Weights("vae", naming, (header.path,), prefix)
    return VAEPart(path=header.path, config=config, weights=weights, files=_files(header, config_file), reason=reason)


def file_text_sources(header: Header, contents: Contents) -> tuple[TextSource, ...]:
    """The text encoders in a file. Raises CheckpointError if it has none."""
    prefixes = find_prefixes(header.tensors)
    if not prefixes or contents.other_family or contents.content not in ("text_encoder", "model", None):
        raise file_refusal("text_encoder", header.path, header.tensors, found=contents, hint=_ANOTHER_FILE)
    return tuple(_text_source(header, prefix) for prefix in prefixes)


def _text_source(header: Header, found: TextPrefix) -> TextSource:
    shapes = Shapes(header, found.prefix)
    config = None if found.prefix or found.naming != "transformers" else _config_beside(header.path, "text_encoder")
    kind = kind_by_shapes(shapes, found.naming) if config is None else kind_by_config(config.content)
    reason = None if config is None else "as its config says"
    return TextSource(
        path=header.path,
        weights=Weights(found.part or "text_encoder", found.naming, (header.path,), found.prefix),
        files=_files(header, config),
        sizes=config or shapes,
        kind=found.kind or kind,
        part=found.part,
        reason=f"because it is below {found.prefix!r}" if found.prefix else reason,
    )


def _layout(header: Header, contents: Contents) -> tuple[Kind, str]:
    """The family whose prefixes the file has, and how that is known. Raises CheckpointError for other files and for parts."""
    path, keys = header.path, header.tensors.keys()
    if contents.content != "model" and contents.name is not None:
        raise file_refusal("model", path, keys, found=contents, hint=_WHOLE_MODEL)
    all_prefixes = {prefix for prefixes in PREFIXES.values() for prefix in prefixes.values()}
    present = {prefix for prefix in all_prefixes if any(key.startswith(prefix) for key in keys)}
    missing = {kind: set(prefixes.values()) - present for kind, prefixes in PREFIXES.items()}
    kind = min(missing, key=lambda kind: (len(missing[kind]), -len(PREFIXES[kind])))
    if missing[kind]:
        raise CheckpointError(
            path,
            expected=f"tensors whose names begin with {' and '.join(sorted(missing[kind]))}",
            found=f"none ({first_names(keys)}, ...)",
            hint="Give the file of a whole Stable Diffusion model: UNet, autoencoder and text encoder.",
        )
    prefixes = tuple(PREFIXES[kind].values())
    below = " and ".join(repr(prefix) for prefix in prefixes[2:])
    return kind, f"because its text encoder{'s are' if len(prefixes) > 3 else ' is'} below {below}"


def _ignored(header: Header, layout: Kind) -> list[str]:
    """The names of tensors that belong to no part of a model, and are not known as unused. Raises CheckpointError for some.

    Those are the names of another text encoder: with them, the file could be a model of another family.
    """
    prefixes = tuple(PREFIXES[layout].values())
    outside = [key for key in header.tensors if not key.startswith(prefixes) and not re.fullmatch(UNUSED, key)]
    others = tuple(prefix for parts in PREFIXES.values() for prefix in parts.values())
    if unknown := [key for key in outside if key.startswith(others)]:
        raise CheckpointError(
            header.path,
            expected=f"only the text encoders of a {NAMES[layout]} model",
            found=f"{len(unknown)} tensors of another one, such as {unknown[0]!r}",
            hint="Remove them or give another file.",
        )
    return outside


def _model(header: Header, layout: Kind, headers: HeaderCache, *, kind: Kind, because: str) -> Checkpoint:
    """The whole model in a file with the prefixes of `layout`, read as one of `kind`. Raises CheckpointError."""
    path, prefixes, scaling = header.path, PREFIXES[layout], scaling_factor(kind)
    unet_weights = Weights("unet", "ldm", (path,), UNET_PREFIX)
    try:
        unet = ldm_unet_config(Shapes(header, UNET_PREFIX))
        vae = vae_config(Shapes(header, VAE_PREFIX), "ldm", scaling)
    except ValueError as error:
        expected, hint = f"sizes of a {NAMES[kind]} model", "The file is damaged or has another layout."
        raise CheckpointError(path, expected=expected, found=str(error), hint=hint) from error
    text_parts = []
    for part in TEXT_PARTS:
        if prefix := prefixes.get(part):
            weights = Weights(part, naming_below(prefix), (path,), prefix)
            config = text_config(Shapes(header, prefix), weights, kind)
            text_parts.append(TextPart(path=path, config=config, weights=weights, files=(path,)))
    schedule, trained = noise_schedule(unet_weights, headers, kind, unet)
    size = 1024 if kind.startswith("sdxl") else 768 if kind == "sd2" and schedule.prediction == "v" else 512
    scaled = f"its latents are multiplied by {scaling}, as in {NAMES[kind]}"
    return Checkpoint(
        path=path,
        layout="ldm",
        kind=kind,
        unet=UNetPart(
            path=path,
            kind=kind,
            config=unet,
            weights=unet_weights,
            noise_schedule=schedule,
            latent=vae.latent,
            files=(path,),
            reason=trained,
        ),
        vae=VAEPart(
            path=path,
            config=vae,
            weights=Weights("vae", "ldm", (path,), VAE_PREFIX),
            files=(path,),
            reason=scaled,
            trained_size=size,
        ),
        text=TextEncoders(path, kind, tuple(text_parts), because),
        files=(path,),
        reason=f"{NAMES[kind]}, {because}; {trained}",
    )


def _find(wanted: Content, header: Header, contents: Contents, layouts: Layouts) -> tuple[Naming, str]:
    """The naming scheme and prefix of a part in a file. Raises CheckpointError if the file does not have it."""
    if contents.content in (wanted, "model") or (contents.content is None and not contents.other_family):
        for naming, prefix, signs in layouts:
            if any(key.startswith(tuple(prefix + sign for sign in signs)) for key in header.tensors):
                return naming, prefix
    raise file_refusal(wanted, header.path, header.tensors, found=contents, hint=_ANOTHER_FILE)


def _config(file: ConfigFile | None, read: Callable[[Json], T], path: Path, sizes: Callable[[], T]) -> T:
    """The config that `read` returns for the file; without a file, the one that `sizes` returns. Raises CheckpointError."""
    if file is not None:
        return file.parse(read)
    try:
        return sizes()
    except ValueError as error:
        expected, hint = "sizes of a network of Stable Diffusion", "The file is damaged or has another layout."
        raise CheckpointError(path, expected=expected, found=str(error), hint=hint) from error


def _config_beside(path: Path, content: Content) -> ConfigFile | None:
    """The config beside a file, as diffusers and transformers leave it; None if it is not of this kind of network."""
    config = path.with_name(CONFIG)
    if not config.is_file():
        return None
    file = read_config(config)
    return file if class_contents(file.content).content == content else None


def _files(header: Header, config: ConfigFile | None) -> tuple[Path, ...]:
    return (header.path,) if config is None else (header.path, config.path)
