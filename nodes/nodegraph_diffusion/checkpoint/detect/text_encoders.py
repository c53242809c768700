"""Text encoders: where they are in a file, their sizes, and which part of which family's model they are read as."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from nodegraph_diffusion.checkpoint.detect.model import TextEncoders, TextPart, Weights
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes, multiple
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.families import TEXT_PARTS, Kind, Naming, Part, only_text_part
from nodegraph_diffusion.checkpoint.files.json_file import ConfigFile, Json
from nodegraph_diffusion.checkpoint.layouts.configs import read_text
from nodegraph_diffusion.networks.config import CLIPTextConfig

WIDTH_1, WIDTH_2 = 768, 1024  # of the text encoders of Stable Diffusion 1 and 2
AS_REQUESTED = "as requested"
_LAYERS_2 = 24  # of Stable Diffusion 2's; diffusers' folders leave out the last one


class TextPrefix(NamedTuple):
    """A prefix of text encoders in files, with the naming scheme below it; `part` and `kind` are None if it does not show them."""

    prefix: str
    naming: Naming
    part: Part | None = None
    kind: Kind | None = None


_IN_MODELS = (
    TextPrefix("cond_stage_model.transformer.", "transformers", "text_encoder"),
    TextPrefix("cond_stage_model.model.", "openclip", "text_encoder", "sd2"),
    TextPrefix("conditioner.embedders.0.transformer.", "transformers", "text_encoder", "sd1"),
    TextPrefix("conditioner.embedders.1.model.", "openclip", "text_encoder_2", "sdxl-refiner"),
    TextPrefix("conditioner.embedders.0.model.", "openclip", "text_encoder_2", "sdxl-refiner"),
)
_WITHOUT_PREFIX = (
    (("text_model.", "embeddings.token_embedding.", "encoder.layers."), TextPrefix("", "transformers")),
    (("token_embedding.", "transformer.resblocks."), TextPrefix("", "openclip")),
)


class _Names(NamedTuple):
    """The tensors that show the sizes of a text encoder."""

    tokens: str
    positions: str
    layer: str
    projection: str
    projection_axis: int  # the axis of the projection that is its output


_NAMES: dict[Naming, _Names] = {
    "transformers": _Names(
        tokens="embeddings.token_embedding.weight",
        positions="embeddings.position_embedding.weight",
        layer="encoder.layers.{}.mlp.fc1.weight",
        projection="text_projection.weight",
        projection_axis=0,
    ),
    "openclip": _Names(
        tokens="token_embedding.weight",
        positions="positional_embedding",
        layer="transformer.resblocks.{}.mlp.c_fc.weight",
        projection="text_projection",
        projection_axis=1,
    ),
}


@dataclass(frozen=True, kw_only=True, eq=False)
class TextSource:
    """One text encoder at a path, before it is decided which part of which family's model it is read as.

    `sizes` is its config, or its shapes if it has none. `kind` is its family if it is the only text encoder; `reason` says how
    that is known; None means by its width. `part` is its part of the model that contains it, None if no model does.
    `from_index`: the index of a diffusers folder says so. `notes` say what was assumed.
    """

    path: Path
    weights: Weights
    files: tuple[Path, ...]
    sizes: ConfigFile | Shapes
    kind: Kind
    part: Part | None = None
    tokenizer: Path | None = None
    reason: str | None = None
    from_index: bool = False
    notes: tuple[str, ...] = ()


def find_prefixes(keys: Collection[str]) -> list[TextPrefix]:
    """The prefixes of the text encoders in a file with tensors of these names; most files have none."""
    prefixes = [prefix for prefix in _IN_MODELS if any(key.startswith(prefix.prefix) for key in keys)]
    return prefixes or [prefix for signs, prefix in _WITHOUT_PREFIX if any(key.startswith(signs) for key in keys)][:1]


def naming_below(prefix: str) -> Naming:
    """The naming scheme of the text encoder below this prefix of a whole model."""
    return next(found.naming for found in _IN_MODELS if found.prefix == prefix)


def kind_by_shapes(shapes: Shapes, naming: Naming = "transformers") -> Kind:
    """The family of a text encoder whose prefix does not show it, by its width and projection.

    Those of Stable Diffusion 1 and 2 are 768 and 1024 wide. Another one with a projection is the big one, the only text encoder
    of the XL refiner.
    """
    names = _NAMES[naming]
    tokens = next((key for key in (names.tokens, f"text_model.{names.tokens}") if shapes.rank(key)), None)
    width = WIDTH_1 if tokens is None else shapes.get(tokens, shapes.rank(tokens))[-1]
    if width in (WIDTH_1, WIDTH_2):
        return "sd1" if width == WIDTH_1 else "sd2"
    return "sdxl-refiner" if names.projection in shapes else "sd2" if naming == "openclip" else "sd1"


def kind_by_config(config: Json) -> Kind:
    """The family of a text encoder with this config of transformers, if it is the only one."""
    if config.get("hidden_act") != "gelu":
        return "sd1"
    return "sdxl-refiner" if config.get("architectures") == ["CLIPTextModelWithProjection"] else "sd2"


def read_text_encoders(
    path: Path, sources: Sequence[TextSource], kind: Kind | None = None, part: Part | None = None
) -> TextEncoders:
    """The text encoders of a file or folder, read as those of a model of `kind`, or as this one `part` of them.

    Raises CheckpointError if such a model has another number of them, or if sizes are missing or wrong.
    """
    wanted = part or (only_text_part(kind) if len(sources) > 1 else None)
    if wanted is not None:
        sources = [source for source in sources if source.part == wanted] or sources[:1]
    if len(sources) > 1:
        parts = tuple(_text_part(source, "sdxl", source.part or "text_encoder") for source in sources)
        below = " and ".join(repr(source.weights.prefix) for source in sources)
        reason = sources[0].reason if sources[0].from_index else f"because they are below {below}"
        return TextEncoders(path, "sdxl", parts, reason or "")
    [source] = sources
    if kind == "sdxl" and part is None and not source.from_index:
        hint = "Give CLIP-L as text_encoder and OpenCLIP's bigG as text_encoder_2."
        raise CheckpointError(path, expected="the two text encoders of Stable Diffusion XL", found="one", hint=hint)
    read_as = kind or source.kind
    role = part or (source.part if source.from_index else only_text_part(read_as)) or "text_encoder"
    text = _text_part(source, read_as, role)
    reason = source.reason or f"because it is {text.config.width} wide"
    return TextEncoders(path, read_as, (text,), reason if kind is None or source.from_index else AS_REQUESTED)


def _text_part(source: TextSource, kind: Kind, part: Part) -> TextPart:
    weights = replace(source.weights, part=part)
    if isinstance(source.sizes, ConfigFile):
        config = source.sizes.parse(lambda json: read_text(json, kind.startswith("sdxl")))
    else:
        config = text_config(source.sizes, weights, kind)
    if part == TEXT_PARTS[1] and config.projection is None:
        raise _without_projection(source.path, config.width)
    return TextPart(
        path=source.path, config=config, weights=weights, files=source.files, tokenizer=source.tokenizer, notes=source.notes
    )


def text_config(shapes: Shapes, weights: Weights, kind: Kind) -> CLIPTextConfig:
    """The sizes of a text encoder, and how a model of this kind reads it. Raises CheckpointError."""
    try:
        return _config_from_shapes(shapes, weights, kind)
    except ValueError as error:
        expected, hint = "sizes of a text encoder of Stable Diffusion", "The file is damaged or has another layout."
        raise CheckpointError(shapes.header.path, expected=expected, found=str(error), hint=hint) from error


def _config_from_shapes(shapes: Shapes, weights: Weights, kind: Kind) -> CLIPTextConfig:
    names = _NAMES[weights.naming]
    inner = f"{shapes.prefix}text_model."
    network = replace(shapes, prefix=inner) if any(key.startswith(inner) for key in shapes.header.tensors) else shapes
    vocab_size, width = network.get(names.tokens, 2)
    layers = network.count(names.layer)
    xl, second = kind.startswith("sdxl"), weights.part == TEXT_PARTS[1]
    if second and names.projection not in shapes:
        raise _without_projection(shapes.header.path, width)
    last_but_one = xl or (kind == "sd2" and (weights.naming == "openclip" or layers == _LAYERS_2))
    return CLIPTextConfig(
        vocab_size=vocab_size,
        width=width,
        layers=layers,
        heads=multiple(width, 64),
        max_length=network.get(names.positions, 2)[0],
        mlp_width=network.get(names.layer.format(0), 2)[0],
        activation="gelu" if second or kind == "sd2" else "quick_gelu",
        projection=shapes.get(names.projection, 2)[names.projection_axis] if second else None,
        layer=2 if last_but_one else 1,
        final_norm=not xl,
        eos=vocab_size - 1,
    )


def _without_projection(path: Path, width: int) -> CheckpointError:
    """The error for a text encoder that is given as Stable Diffusion XL's second and has no projection."""
    return CheckpointError(
        path,
        expected="a text encoder with a projection, as Stable Diffusion XL's second has one (OpenCLIP's bigG)",
        found=f"one without, of width {width}",
        hint="CLIP-L is its first.",
    )
