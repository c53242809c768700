"""CLIP's image encoders: files and folders of transformers, and OpenCLIP's names."""

from __future__ import annotations

import re
from dataclasses import replace
from math import isqrt
from pathlib import Path

from nodegraph_diffusion.checkpoint.detect.contents import Contents, file_contents, file_refusal
from nodegraph_diffusion.checkpoint.detect.extra_networks.file import NetworkFile, damage_of
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes
from nodegraph_diffusion.checkpoint.detect.sources import find_sources
from nodegraph_diffusion.checkpoint.files.header import Header, HeaderCache
from nodegraph_diffusion.checkpoint.files.json_file import read_config
from nodegraph_diffusion.checkpoint.layouts.diffusers_folder import CONFIG
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece, openclip_pieces
from nodegraph_diffusion.networks.config import CLIPVisionConfig
from nodegraph_diffusion.networks.shapes import vision_shapes

_FOLDER_WEIGHTS = "model.safetensors"
_HEADS = {768: 12, 1024: 16, 1280: 16, 1408: 16, 1664: 16}  # by width, of the published ones; shapes do not show it
_QUICK = (768, 1024)  # the widths of OpenAI's, whose activation is the approximation; OpenCLIP's have GELU itself
_PREFIX, _OPENCLIP = "vision_model.", "visual."
_PLAIN = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
}
_NOT_ONE = "Give a file or folder of CLIP's image encoder, such as clip_vision_g.safetensors."


class ImageEncoderFile(NetworkFile[CLIPVisionConfig]):
    """A file with CLIP's image encoder."""


def folder_image_encoder(folder: Path, headers: HeaderCache) -> ImageEncoderFile:
    """The image encoder in a folder that transformers wrote. Raises CheckpointError for other folders."""
    header = headers.read(folder / _FOLDER_WEIGHTS)
    return replace(file_image_encoder(header, file_contents(header.tensors)), path=folder)


def file_image_encoder(header: Header, contents: Contents) -> ImageEncoderFile:
    """The image encoder in a file, which may hold CLIP's text encoder, too. Raises CheckpointError for other files."""
    pieces = {key: found for key in header.tensors if (found := _pieces(key))}
    ours = {piece.key: header.tensors[key] for key, found in pieces.items() for piece in found if not piece.transposed}
    if "embeddings.patch_embedding.weight" not in ours or contents.content not in (None, "image_encoder", "text_encoder"):
        raise file_refusal("image_encoder", header.path, header.tensors, found=contents, hint=_NOT_ONE)
    with damage_of(header.path, "CLIP's image encoder"):
        config, config_file = _config(header, Shapes(Header(header.path, ours)))
    looked_at = replace(header, tensors={key: header.tensors[key] for key in pieces})
    sources = find_sources(
        vision_shapes(config), [looked_at], name="image encoder", prefix="", pieces_of=lambda key: pieces.get(key, [])
    )
    return ImageEncoderFile(
        path=header.path, weights=header.path, config=config, sources=sources.tensors, config_file=config_file, notes=sources.notes
    )


def _pieces(key: str) -> list[Piece]:
    """Our tensors within a tensor of the file; none if it is not one of the image encoder."""
    if key == "visual_projection.weight" or (key.startswith(_PREFIX) and not key.endswith("position_ids")):
        return [Piece(key.removeprefix(_PREFIX))]
    if not key.startswith(_OPENCLIP):
        return []
    inner = key.removeprefix(_OPENCLIP)
    if inner == "proj":
        return [Piece("visual_projection.weight", transposed=True)]  # OpenCLIP multiplies from the other side
    norm = re.sub("^ln_post", "post_layernorm", re.sub("^ln_pre", "pre_layrnorm", inner))
    return [Piece(_PLAIN.get(inner, norm))] if inner in _PLAIN or norm != inner else openclip_pieces(inner)


def _config(header: Header, shapes: Shapes) -> tuple[CLIPVisionConfig, Path | None]:
    """The sizes, and the config beside the file that says what the shapes do not, if there is one."""
    width, _, patch, _ = shapes.get("embeddings.patch_embedding.weight", 4)
    positions, _ = shapes.get("embeddings.position_embedding.weight", 2)
    transposed = header.tensors.get("visual.proj")
    projection = shapes.get("visual_projection.weight", 2)[0] if transposed is None else transposed.shape[-1]
    heads, activation = _HEADS.get(width, max(width // 64, 1)), "quick_gelu" if width in _QUICK else "gelu"
    file = header.path.with_name(CONFIG)
    beside = read_config(file).content if file.is_file() else {}
    json = beside.get("vision_config", beside)
    is_its_own = isinstance(json, dict) and json.get("model_type") in ("clip_vision_model", "clip")
    json = json if is_its_own else {}
    return (
        CLIPVisionConfig(
            size=isqrt(positions - 1) * patch,
            patch=patch,
            width=width,
            layers=max((int(match[1]) + 1 for key in header.tensors if (match := _layer(key))), default=0),
            heads=json.get("num_attention_heads", heads),
            mlp_width=_mlp_width(header),
            activation=json.get("hidden_act", activation),
            projection=projection,
        ),
        file if is_its_own else None,
    )


def _layer(key: str) -> re.Match[str] | None:
    return re.match(r"(?:vision_model\.encoder\.layers|visual\.transformer\.resblocks)\.(\d+)\.", key)


def _mlp_width(header: Header) -> int:
    names = ("vision_model.encoder.layers.0.mlp.fc1.weight", "visual.transformer.resblocks.0.mlp.c_fc.weight")
    return next((header.tensors[name].shape[0] for name in names if name in header.tensors), 0)
