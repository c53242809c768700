"""Parts of models in single files: alone, or among the other parts of a whole model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from nodegraph_diffusion.checkpoint.detect.configs import Json, read_text, read_unet, read_vae
from nodegraph_diffusion.checkpoint.detect.contents import TEXT_PREFIXES, UNET_PREFIX, VAE_PREFIX, class_of, is_whole, known, not_a
from nodegraph_diffusion.checkpoint.detect.ldm import detect_ldm, trained_for, unet_config
from nodegraph_diffusion.checkpoint.detect.model import (
    Kind,
    Naming,
    Part,
    TextEncoders,
    TextPart,
    UNetPart,
    VAEPart,
    Weights,
    scaling_factor,
)
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes
from nodegraph_diffusion.checkpoint.detect.sizes import unet_sizes, vae_config
from nodegraph_diffusion.checkpoint.detect.text_encoders import (
    Place,
    alone_as,
    config_kind,
    only_part,
    text_config,
    text_kind,
    text_places,
)
from nodegraph_diffusion.checkpoint.errors import CheckpointError, Content
from nodegraph_diffusion.checkpoint.files.header import TensorInfo, read_header
from nodegraph_diffusion.checkpoint.files.json_file import read_config, read_json
from nodegraph_diffusion.networks.config import LatentSpace, UNetConfig

T = TypeVar("T")
Tensors = Mapping[str, TensorInfo]

_UNETS: tuple[tuple[Naming, str, tuple[str, ...]], ...] = (
    ("ldm", UNET_PREFIX, ("input_blocks.", "middle_block.", "output_blocks.")),
    ("ldm", "", ("input_blocks.", "middle_block.", "output_blocks.")),
    ("diffusers", "", ("down_blocks.", "mid_block.", "up_blocks.")),
)
_VAES: tuple[tuple[Naming, str, tuple[str, ...]], ...] = (
    ("ldm", VAE_PREFIX, ("encoder.", "decoder.")),
    ("ldm", "", ("encoder.down.", "decoder.up.")),
    ("diffusers", "", ("encoder.down_blocks.", "decoder.up_blocks.")),
)
_POOLED_SIZES = 5 * 256  # what the refiner is told beside its text encoder's pooled output: five numbers, 256 wide each


def file_unet(path: Path, tensors: Tensors) -> UNetPart:
    """The UNet in a file with these tensors. Raises CheckpointError where it holds none, or a broken one."""
    naming, prefix = _place("unet", path, tensors, _UNETS)
    if is_whole(tensors):
        return detect_ldm(path, tensors).unet
    shapes = Shapes(path, tensors)
    config, beside = _config(
        path,
        "unet" if naming == "diffusers" else None,
        read_unet,
        lambda: unet_config(shapes, prefix) if naming == "ldm" else unet_sizes(shapes),
    )
    return unet_alone(path, config, Weights("unet", naming, (path,), prefix), (path, *beside))


def unet_alone(path: Path, config: UNetConfig, weights: Weights, files: tuple[Path, ...]) -> UNetPart:
    """A UNet of which no more is known than its sizes: it denoises in the latents of its family. Raises CheckpointError."""
    kind = unet_kind(config)
    tensors = {key: info for file in weights.paths for key, info in read_header(file).items()}
    schedule, reason = trained_for(weights, tensors, kind, config)
    latent = LatentSpace(config.out_channels, scaling_factor=scaling_factor(kind))
    return UNetPart(path, kind, config, weights, schedule, latent, files, reason)


def unet_kind(config: UNetConfig) -> Kind:
    """Which family's a UNet of these sizes is."""
    if config.added_dim is not None:
        return "sdxl-refiner" if config.added_dim == config.context_dim + _POOLED_SIZES else "sdxl"
    return "sd2" if config.linear_projection else "sd1"


def file_vae(path: Path, tensors: Tensors) -> VAEPart:
    """The autoencoder in a file with these tensors. Raises CheckpointError where it holds none, or a broken one."""
    naming, prefix = _place("vae", path, tensors, _VAES)
    if is_whole(tensors):
        return detect_ldm(path, tensors).vae
    xl = any(key.startswith((f"{UNET_PREFIX}label_emb.", TEXT_PREFIXES[1])) for key in tensors)
    scaling = scaling_factor("sdxl" if xl else "sd1")
    config, beside = _config(
        path,
        "vae" if naming == "diffusers" else None,
        read_vae,
        lambda: vae_config(Shapes(path, tensors), naming, prefix, scaling),
    )
    taken = "as its config says" if beside else "as Stable Diffusion 1's and 2's: no file says it of itself, and XL's look the same"
    reason = f"its latents are multiplied by {config.scaling_factor}, {'as those of its family' if xl else taken}"
    return VAEPart(path, config, Weights("vae", naming, (path,), prefix), (path, *beside), reason)


def file_texts(path: Path, tensors: Tensors, kind: Kind | None = None, part: Part | None = None) -> TextEncoders:
    """The text encoders in a file with these tensors, read as those of a model of `kind`, or the `part` of these that it holds.

    Raises CheckpointError where it holds none, or a broken one, or another number of them than such a model has.
    """
    found = known(tensors)
    places = text_places(tensors)
    if not places or (found is not None and found.holds not in ("text_encoder", "model", None)):
        raise not_a("text_encoder", path, tensors, "Give a file that has one.")
    wanted = part or (only_part(kind) if len(places) > 1 else None)
    if wanted is not None:
        places = [place for place in places if place.part == wanted] or places[:1]
    if len(places) > 1:
        texts = tuple(_text(path, tensors, place, "sdxl", place.part or "text_encoder")[0] for place in places)
        return TextEncoders(path, "sdxl", texts, f"since they lie below {' and '.join(repr(place.prefix) for place in places)}")
    place = places[0]
    read_as, role = alone_as(path, kind, part, lambda: _kind(path, tensors, place))
    text, because = _text(path, tensors, place, read_as, role)
    return TextEncoders(path, read_as, (text,), because if kind is None else "as it was told to be")


def _kind(path: Path, tensors: Tensors, place: Place) -> Kind:
    """Which family's the text encoder at a place is, where it is the only one."""
    if place.kind is not None:
        return place.kind if place.kind != "sdxl" else "sdxl-refiner" if place.part == "text_encoder_2" else "sd1"
    config = None if place.prefix else _beside(path, "text_encoder")
    return text_kind(tensors, place.prefix, place.naming) if config is None else config_kind(read_json(config))


def _text(path: Path, tensors: Tensors, place: Place, kind: Kind, part: Part) -> tuple[TextPart, str]:
    """The text encoder at a place, as this part of a model of `kind`; and how it is known to be."""
    weights = Weights(part, place.naming, (path,), place.prefix)
    bare = place.naming == "transformers" and not place.prefix
    config, beside = _config(
        path,
        "text_encoder" if bare else None,
        lambda json: read_text(json, kind.startswith("sdxl")),
        lambda: text_config(Shapes(path, tensors), weights, kind),
    )
    because = "as its config says" if beside else f"since it is {config.width} wide"
    if place.prefix:
        because = f"since it lies below {place.prefix!r}"
    return TextPart(path, config, weights, (path, *beside)), because


def _place(
    holds: Content, path: Path, tensors: Tensors, places: tuple[tuple[Naming, str, tuple[str, ...]], ...]
) -> tuple[Naming, str]:
    """By whose names, and below which prefix, a part lies in a file. Raises CheckpointError where it does not."""
    found = known(tensors)
    if found is None or found.holds in (holds, "model", None):
        for naming, prefix, signs in places:
            if any(key.startswith(tuple(prefix + sign for sign in signs)) for key in tensors):
                return naming, prefix
    raise not_a(holds, path, tensors, "Give a file that has one.")


def _config(path: Path, holds: Content | None, read: Callable[[Json], T], sizes: Callable[[], T]) -> tuple[T, tuple[Path, ...]]:
    """The config that lies beside a file, of a network of the kind that it `holds`; or, without one, what its shapes tell.

    And the files that it was read from.
    """
    beside = None if holds is None else _beside(path, holds)
    if beside is not None:
        return read_config(beside, read), (beside,)
    try:
        return sizes(), ()
    except ValueError as error:
        expected, hint = "sizes of a network of Stable Diffusion", "The file is damaged or of another layout."
        raise CheckpointError(path, expected=expected, found=str(error), hint=hint) from error


def _beside(path: Path, holds: Content) -> Path | None:
    """The config beside a file, where it is of a network of this kind: as diffusers and transformers leave it."""
    config = path.with_name("config.json")
    found = class_of(read_json(config)) if config.is_file() else None
    return config if found is not None and found.holds == holds else None
