"""OpenCLIP's names for the text encoders of Stable Diffusion 2 and XL in single files, and our names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

_PLAIN = {
    "token_embedding.weight": "embeddings.token_embedding.weight",
    "positional_embedding": "embeddings.position_embedding.weight",
    "ln_final.weight": "final_layer_norm.weight",
    "ln_final.bias": "final_layer_norm.bias",
}
_IN_LAYER = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
_LAYER = re.compile(r"transformer\.resblocks\.(\d+)\.(.+?)\.(weight|bias)")
_OUR_LAYER = re.compile(r"encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_FUSED = re.compile(r"transformer\.resblocks\.(\d+)\.attn\.in_proj_(weight|bias)")


class Piece(NamedTuple):
    """One of our tensors within a tensor of a file: all of it, or the `third` of a fused one; `transposed` or not."""

    key: str
    third: int | None = None
    transposed: bool = False


def openclip_pieces(key: str) -> list[Piece]:
    """Our tensors within the tensor `key` of OpenCLIP's text transformer; none if it is unknown."""
    if key in _PLAIN:
        return [Piece(_PLAIN[key])]
    if key == "text_projection":
        return [Piece("text_projection.weight", transposed=True)]  # OpenCLIP multiplies from the other side
    if match := _FUSED.fullmatch(key):
        layer = f"encoder.layers.{match[1]}.self_attn"
        return [Piece(f"{layer}.{name}_proj.{match[2]}", third) for third, name in enumerate("qkv")]
    match = _LAYER.fullmatch(key)
    if match is None or match[2] not in _IN_LAYER:
        return []
    return [Piece(f"encoder.layers.{match[1]}.{_IN_LAYER[match[2]]}.{match[3]}")]


def openclip_names(keys: Iterable[str]) -> dict[str, list[Piece]]:
    """The names of OpenCLIP's tensors that hold our tensors `keys` of a text encoder, each with the pieces that it holds."""
    plain = {ours: theirs for theirs, ours in _PLAIN.items()} | {"text_projection.weight": "text_projection"}
    inside = {ours: theirs for theirs, ours in _IN_LAYER.items()}
    names: dict[str, list[Piece]] = {}
    for key in keys:
        match = _OUR_LAYER.fullmatch(key)
        if match is None:
            name = plain[key]
        elif match[2] in inside:
            name = f"transformer.resblocks.{match[1]}.{inside[match[2]]}.{match[3]}"
        else:  # queries, keys or values
            name = f"transformer.resblocks.{match[1]}.attn.in_proj_{match[3]}"
        names[name] = openclip_pieces(name)
    return names
