"""Where each tensor of a network comes from in its files. The one judgement of whether a part can be loaded, without torch."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeVar

from nodegraph_diffusion.checkpoint.detect.controlnet import ControlNetFile
from nodegraph_diffusion.checkpoint.detect.model import Checkpoint, TextEncoders, TextPart, UNetPart, VAEPart
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import Header, HeaderCache
from nodegraph_diffusion.checkpoint.files.tensor_info import EIGHT_BIT_FLOATS, FLOATS, TensorInfo
from nodegraph_diffusion.checkpoint.layouts.controlnet import DIFFERENCE_MARK, PREFIX, controlnet_modules
from nodegraph_diffusion.checkpoint.layouts.ldm import HARMLESS, UNUSED
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules, vae_modules
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece, openclip_pieces
from nodegraph_diffusion.checkpoint.layouts.scaled_fp8 import NO_EFFECT, scaled_weight
from nodegraph_diffusion.networks.shapes import TensorShapes, controlnet_shapes, text_shapes, unet_shapes, vae_shapes

AnyPart = UNetPart | VAEPart | TextPart
P = TypeVar("P", bound=UNetPart | VAEPart | TextPart)
PiecesOf = Callable[[str], list[Piece]]

_OLD_VAE_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}  # in diffusers up to 0.17
_DAMAGED = "The file is damaged, or belongs to another model."


class Source(NamedTuple):
    """Where a tensor of a network comes from: a file, a name in it, and the piece of that tensor.

    `scale` is the name of a tensor in the same file with one factor for the tensor, or one for each row; None if there is none.
    """

    file: Path
    name: str
    piece: Piece
    scale: str | None = None


@dataclass(frozen=True)
class Sources:
    """The source of each tensor of a network by our name, and the names of tensors in the files that are ignored."""

    tensors: Mapping[str, Source]
    ignored: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        """The note about ignored tensors, if there are any."""
        return ignored_note(self.ignored)


def ignored_note(names: Sequence[str]) -> tuple[str, ...]:
    """The note about tensors that are in a file and ignored; empty if there are none."""
    if not names:
        return ()
    if len(names) == 1:
        return (f"1 tensor belongs to no part of the model and is ignored ({names[0]!r})",)
    return (f"{len(names)} tensors belong to no part of the model and are ignored ({names[0]!r}, ...)",)


def checked(part: P, headers: HeaderCache) -> P:
    """The part, with a note about tensors that are ignored. Raises CheckpointError if a tensor is missing, unknown or wrong."""
    sources = part_sources(part, [headers.read(path) for path in part.weights.paths])
    return replace(part, notes=(*part.notes, *sources.notes)) if sources.ignored else part


def checked_controlnet(file: ControlNetFile, headers: HeaderCache) -> ControlNetFile:
    """The ControlNet, as `checked` returns parts."""
    sources = controlnet_sources(file, headers.read(file.weights))
    return replace(file, notes=(*file.notes, *sources.notes)) if sources.ignored else file


def verify(found: Checkpoint | UNetPart | VAEPart | TextEncoders) -> None:
    """Check name, shape and dtype of every tensor of every part again, from the headers. Raises CheckpointError."""
    if isinstance(found, Checkpoint):
        parts: tuple[AnyPart, ...] = (found.unet, found.vae, *found.text.parts)
    else:
        parts = found.parts if isinstance(found, TextEncoders) else (found,)
    headers = HeaderCache()
    for part in parts:
        checked(part, headers)


def part_shapes(part: AnyPart) -> TensorShapes:
    """The tensors of the network of a part, by our names."""
    if isinstance(part, UNetPart):
        return unet_shapes(part.config)
    return vae_shapes(part.config) if isinstance(part, VAEPart) else text_shapes(part.config)


def part_sources(part: AnyPart, headers: Sequence[Header]) -> Sources:
    """The sources of a part of a model. Raises CheckpointError if a tensor is missing, unknown or wrong."""
    weights = part.weights
    return find_sources(part_shapes(part), headers, name=weights.part, prefix=weights.prefix, pieces_of=_pieces(part))


def controlnet_sources(file: ControlNetFile, header: Header) -> Sources:
    """The sources of a ControlNet. Raises CheckpointError if a tensor is missing, unknown or wrong."""
    prefix = PREFIX if file.layout == "ldm" and any(key.startswith(PREFIX) for key in header.tensors) else ""
    expected = controlnet_shapes(file.config, file.hint_widths)
    if file.layout == "ldm":
        return find_sources(
            expected,
            [header],
            name="ControlNet",
            prefix=prefix,
            pieces_of=lambda key: [] if key == DIFFERENCE_MARK else [Piece(key)],
        )
    pieces = _diffusers_pieces(controlnet_modules(file.config, file.hint_widths))
    return find_sources(expected, [header], name="ControlNet", prefix="", pieces_of=pieces)


def find_sources(expected: TensorShapes, headers: Sequence[Header], *, name: str, prefix: str, pieces_of: PiecesOf) -> Sources:
    """The source of each `expected` tensor. Every tensor below `prefix` is used once, except the known unused ones.

    `pieces_of` returns the pieces of the network in the tensor with this name, without the prefix. If there is no prefix, tensors
    that are known not to belong to any part are ignored. Raises CheckpointError, which calls the network `name`.
    """
    sources: dict[str, Source] = {}
    scales: dict[tuple[Path, str], str] = {}
    unknown, ignored = [], []
    for header in headers:
        for key, info in header.tensors.items():
            if not key.startswith(prefix):
                continue
            pieces = [piece for piece in pieces_of(key.removeprefix(prefix)) if piece.key in expected and piece.key not in sources]
            for piece in pieces:
                _check_tensor(header.path, key, info, shape=expected[piece.key], piece=piece)
                sources[piece.key] = Source(header.path, key, piece)
            if pieces or re.fullmatch(UNUSED, key) or re.fullmatch(NO_EFFECT, key):
                continue
            if weight := scaled_weight(key):
                scales[header.path, weight] = _checked_scale(header, key, weight)
            elif not prefix and re.fullmatch(HARMLESS, key):
                ignored.append(key)
            else:
                unknown.append(key)
    missing = [key for key in expected if key not in sources]
    if missing or unknown:
        wrong = [
            f"{len(names)} {what} ({names[0]}{', ...' if len(names) > 1 else ''})"
            for what, names in (("missing", missing), ("unknown", unknown))
            if names
        ]
        raise CheckpointError(
            headers[0].path,
            expected=f"the {len(expected)} tensors of its {name}",
            found=" and ".join(wrong),
            hint="The file is incomplete, or belongs to another model than its shapes suggest.",
        )
    if scales:
        sources = {key: source._replace(scale=scales.get((source.file, source.name))) for key, source in sources.items()}
    return Sources(sources, tuple(ignored))


def _pieces(part: AnyPart) -> PiecesOf:
    """The function from the name of a part's tensor in its file, without the prefix, to our tensors within it."""
    naming = part.weights.naming
    if naming == "openclip":
        return openclip_pieces
    if naming == "transformers":
        return lambda key: [Piece(key.removeprefix("text_model."))]  # transformers writes it up to 5.5
    if naming == "ldm" or isinstance(part, TextPart):
        return lambda key: [Piece(key)]
    if isinstance(part, UNetPart):
        return _diffusers_pieces(unet_modules(part.config))
    table = vae_modules(part.config)
    modules = {diffusers: ldm for ldm, diffusers in table.items()}
    for ldm, diffusers in table.items():
        for old, new in _OLD_VAE_ATTENTION.items():
            if "attentions" in diffusers and diffusers.endswith(f".{new}"):
                modules[diffusers.removesuffix(new) + old] = ldm
    return lambda key: [Piece(rename(key, modules))]


def _diffusers_pieces(table: dict[str, str]) -> PiecesOf:
    modules = {diffusers: ldm for ldm, diffusers in table.items()}
    return lambda key: [Piece(rename(key, modules))]


def _check_tensor(path: Path, name: str, info: TensorInfo, *, shape: tuple[int, ...], piece: Piece) -> None:
    """Raise CheckpointError unless the tensor has `shape`, or that of a linear layer for a convolution of size one, and floats."""
    whole = shape if piece.third is None else (3 * shape[0], *shape[1:])
    whole = whole[::-1] if piece.transposed else whole
    pointwise = whole == info.shape or (whole[:2] == info.shape[:2] and {*whole[2:], *info.shape[2:]} <= {1})
    if not pointwise:
        raise CheckpointError(
            path, expected=f"{name!r} of shape {list(whole)}", found=f"one of shape {list(info.shape)}", hint=_DAMAGED
        )
    if info.dtype not in FLOATS:
        raise CheckpointError(path, expected=f"{name!r} in {', '.join(FLOATS)}", found=info.dtype, hint=_DAMAGED)


def _checked_scale(header: Header, name: str, weight: str) -> str:
    """`name`, that of the scale of `weight` of eight bits. Raises CheckpointError unless it has one number, or one for each row."""
    scale, scaled = header.tensors[name], header.tensors.get(weight)
    fits = scaled is not None and (scale.size == 1 or (scale.size,) == scale.shape[:1] == scaled.shape[:1])
    if not fits or scale.dtype not in FLOATS or scaled is None or scaled.dtype not in EIGHT_BIT_FLOATS:
        dtype = "no such tensor" if scaled is None else f"shape {list(scaled.shape)} in {scaled.dtype}"
        raise CheckpointError(
            header.path,
            expected=f"{name!r} to be one number, or one for each row of {weight!r} in {' or '.join(EIGHT_BIT_FLOATS)}",
            found=f"shape {list(scale.shape)} in {scale.dtype}, for {dtype}",
            hint="Scales of blocks and other formats are not supported. Give the model in float16.",
        )
    return name
