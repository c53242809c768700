"""Scaled weights of eight bits and their formats, as ComfyUI reads and writes them.

A weight `X.weight` in F8_E4M3 or F8_E5M2 stands for its numbers times the tensor `X.scale_weight`, or `X.weight_scale` in files
since 2025: one number, or one for each row. Without such a tensor it stands for itself. Files since 2025 also name the format of
each such layer: as JSON in bytes, `X.comfy_quant`, or of all of them in the header's `_quantization_metadata`.
"""

from __future__ import annotations

import json
from typing import Any

FORMAT_OF_LAYER = ".comfy_quant"
"""How the name of a tensor with the format of a layer ends."""

FORMATS_OF_LAYERS = "_quantization_metadata"
"""The name of the formats of all layers in the metadata of a header."""

NO_EFFECT = r"(.*\.)?(scaled_fp8|scale_input|input_scale|comfy_quant)"
"""Names of tensors that say how to compute in eight bits, which we do not do."""

READABLE = ("float8_e4m3fn", "float8_e5m2")
"""The formats of layers that can be read."""

LONGEST_FORMAT = 10_000
"""Bytes that the format of a layer may take; it takes about 40."""

_SCALES = (".scale_weight", ".weight_scale")


def scaled_weight(key: str) -> str | None:
    """The name of the weight whose scale is the tensor `key`; None for other tensors."""
    return f"{key[: key.rindex('.')]}.weight" if key.endswith(_SCALES) else None


def format_of_layer(text: str | bytes) -> str:
    """The name of the format in the JSON of a layer. Raises ValueError or TypeError if it is damaged."""
    return _name(_parsed(text))


def formats_of_layers(text: str) -> dict[str, str]:
    """The name of the format of each layer in the metadata of a header. Raises ValueError or TypeError if it is damaged."""
    layers = _parsed(text).get("layers", {})
    if not isinstance(layers, dict):
        raise TypeError(f"layers of type {type(layers).__name__}")
    return {layer: _name(entry) for layer, entry in layers.items()}


def _parsed(text: str | bytes) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except RecursionError as error:
        raise ValueError(str(error)) from error
    if not isinstance(content, dict):
        raise TypeError(f"a {type(content).__name__} instead of an object")
    return content


def _name(entry: Any) -> str:
    name = entry.get("format") if isinstance(entry, dict) else entry
    if not isinstance(name, str):
        raise TypeError(f"a format of type {type(name).__name__}")
    return name
