"""Text encoders in single files: where they lie, by whose names, how they are sized, and which family's they are."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import NamedTuple

from nodegraph_diffusion.checkpoint.detect.configs import Json
from nodegraph_diffusion.checkpoint.detect.model import Kind, Naming, Part, Weights
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes, multiple
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import TensorInfo
from nodegraph_diffusion.networks.config import CLIPTextConfig

WIDTH_1, WIDTH_2 = 768, 1024  # of the text encoders of Stable Diffusion 1 and 2
_LAYERS_2 = 24  # of Stable Diffusion 2's, which diffusers' folders leave the last one out of


class Place(NamedTuple):
    """Where a text encoder lies in a file, by whose names, and which part of which model it is there (None: that is not said)."""

    prefix: str
    naming: Naming
    part: Part | None = None
    kind: Kind | None = None


_IN_MODELS = (
    Place("cond_stage_model.transformer.", "transformers", "text_encoder"),
    Place("cond_stage_model.model.", "openclip", "text_encoder", "sd2"),
    Place("conditioner.embedders.0.transformer.", "transformers", "text_encoder", "sdxl"),
    Place("conditioner.embedders.1.model.", "openclip", "text_encoder_2", "sdxl"),
    Place("conditioner.embedders.0.model.", "openclip", "text_encoder_2", "sdxl-refiner"),
)
_ALONE = (
    (("text_model.", "embeddings.token_embedding.", "encoder.layers."), Place("", "transformers")),
    (("token_embedding.", "transformer.resblocks."), Place("", "openclip")),
)


class _Names(NamedTuple):
    """Names of the tensors that size a text encoder."""

    tokens: str
    positions: str
    layer: str
    projection: str
    projected: int  # the side of the projection that is its output


_NAMES: dict[Naming, _Names] = {
    "transformers": _Names(
        "embeddings.token_embedding.weight",
        "embeddings.position_embedding.weight",
        "encoder.layers.{}.mlp.fc1.weight",
        "text_projection.weight",
        0,
    ),
    "openclip": _Names(
        "token_embedding.weight", "positional_embedding", "transformer.resblocks.{}.mlp.c_fc.weight", "text_projection", 1
    ),
}


def text_places(keys: Collection[str]) -> list[Place]:
    """Where text encoders lie in a file with tensors of these names; nowhere in most."""
    lie = [place for place in _IN_MODELS if any(key.startswith(place.prefix) for key in keys)]
    return lie or [place for signs, place in _ALONE if any(key.startswith(signs) for key in keys)][:1]


def text_naming(prefix: str) -> Naming:
    """By whose names the text encoder is stored that lies below this prefix of a whole model."""
    return next(place.naming for place in _IN_MODELS if place.prefix == prefix)


def text_kind(tensors: Mapping[str, TensorInfo], prefix: str = "", naming: Naming = "transformers") -> Kind:
    """Which family's a text encoder is whose prefix does not say it: by its width, and by its projection.

    Those of Stable Diffusion 1 and 2 are 768 and 1024 wide. Another one with a projection is the big one, which the XL refiner has
    alone.
    """
    names = _NAMES[naming]
    tokens = tensors.get(prefix + names.tokens) or tensors.get(f"{prefix}text_model.{names.tokens}")
    width = tokens.shape[-1] if tokens is not None and tokens.shape else WIDTH_1
    if width in (WIDTH_1, WIDTH_2):
        return "sd1" if width == WIDTH_1 else "sd2"
    return "sdxl-refiner" if prefix + names.projection in tensors else "sd2" if naming == "openclip" else "sd1"


def config_kind(config: Json) -> Kind:
    """Which family's a text encoder with this config of transformers' is, where it is the only one."""
    if config.get("hidden_act") != "gelu":
        return "sd1"
    return "sdxl-refiner" if config.get("architectures") == ["CLIPTextModelWithProjection"] else "sd2"


def only_part(kind: Kind | None) -> Part | None:
    """Which text encoder a model of this kind has alone; None for Stable Diffusion XL, which has two, and where it is not said."""
    return None if kind in (None, "sdxl") else "text_encoder_2" if kind == "sdxl-refiner" else "text_encoder"


def alone_as(path: Path, kind: Kind | None, part: Part | None, guess: Callable[[], Kind]) -> tuple[Kind, Part]:
    """What the only text encoder of a file or folder is read as: which part of which family's model.

    Raises CheckpointError where it would have to be both parts of Stable Diffusion XL.
    """
    kind = kind or guess()
    if kind == "sdxl" and part is None:
        hint = "Give CLIP-L as text_encoder and OpenCLIP's bigG as text_encoder_2."
        raise CheckpointError(path, expected="the two text encoders of Stable Diffusion XL", found="one", hint=hint)
    return kind, part or only_part(kind) or "text_encoder"


def unprojected(path: Path, width: int) -> CheckpointError:
    """The error for a text encoder without a projection in the place of Stable Diffusion XL's second."""
    return CheckpointError(
        path,
        expected="a text encoder with a projection, as Stable Diffusion XL's second has one (OpenCLIP's bigG)",
        found=f"one without, of width {width}",
        hint="CLIP-L is its first.",
    )


def text_config(shapes: Shapes, weights: Weights, kind: Kind) -> CLIPTextConfig:
    """The sizes of a text encoder, and how a model of this kind reads it. Raises CheckpointError, ValueError."""
    names, prefix = _NAMES[weights.naming], weights.prefix
    inner = f"{prefix}text_model."
    inner = inner if any(key.startswith(inner) for key in shapes.tensors) else prefix
    vocab_size, width = shapes.get(inner + names.tokens, 2)
    layers = shapes.count(inner + names.layer)
    xl, second = kind.startswith("sdxl"), weights.part == "text_encoder_2"
    if second and prefix + names.projection not in shapes:
        raise unprojected(shapes.path, width)
    early = xl or (kind == "sd2" and (weights.naming == "openclip" or layers == _LAYERS_2))
    return CLIPTextConfig(
        vocab_size=vocab_size,
        width=width,
        layers=layers,
        heads=multiple(width, 64),
        max_length=shapes.get(inner + names.positions, 2)[0],
        mlp_width=shapes.get(inner + names.layer.format(0), 2)[0],
        activation="gelu" if second or kind == "sd2" else "quick_gelu",
        projection=shapes.get(prefix + names.projection, 2)[names.projected] if second else None,
        layer=2 if early else 1,
        final_norm=not xl,
        eos=vocab_size - 1,
    )
