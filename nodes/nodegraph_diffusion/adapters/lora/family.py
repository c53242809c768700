"""The families of models that an adapter may be for: by the names of its modules and the shapes of its factors, without torch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import get_args

from nodegraph_diffusion.adapters.lora.match import AnyConfig, modules_by_name
from nodegraph_diffusion.checkpoint.detect.lora import LoraFile
from nodegraph_diffusion.checkpoint.families import Kind, Part
from nodegraph_diffusion.checkpoint.layouts.adapter_kinds import factor_shapes, kind_of
from nodegraph_diffusion.checkpoint.layouts.adapter_shapes import Shape, check_fit
from nodegraph_diffusion.networks.config import CLIPTextConfig, UNetConfig
from nodegraph_diffusion.networks.shapes import TensorShapes, text_shapes, unet_shapes

_UNETS: Mapping[Kind, UNetConfig] = {
    "sd1": UNetConfig(),
    "sd2": UNetConfig(context_dim=1024, linear_projection=True),
    "sdxl": UNetConfig(
        channel_mult=(1, 2, 4),
        transformer_depth=(0, 2, 10),
        middle_depth=10,
        context_dim=2048,
        linear_projection=True,
        added_dim=2816,
    ),
    "sdxl-refiner": UNetConfig(
        model_channels=384,
        transformer_depth=(0, 4, 4, 0),
        middle_depth=4,
        context_dim=1280,
        linear_projection=True,
        added_dim=2560,
    ),
}
"""The published sizes; the number of heads, which no shape shows, is not theirs."""

_CLIP_L = CLIPTextConfig()
_OPENCLIP_H = CLIPTextConfig(width=1024, layers=24, heads=16, mlp_width=4096)
_OPENCLIP_G = CLIPTextConfig(width=1280, layers=32, heads=20, mlp_width=5120, projection=1280)
_TEXTS: Mapping[Kind, Mapping[Part, CLIPTextConfig]] = {
    "sd1": {"text_encoder": _CLIP_L},
    "sd2": {"text_encoder": _OPENCLIP_H},
    "sdxl": {"text_encoder": _CLIP_L, "text_encoder_2": _OPENCLIP_G},
    "sdxl-refiner": {"text_encoder_2": _OPENCLIP_G},
}


def families(file: LoraFile) -> tuple[Kind, ...]:
    """The families whose networks the changes fit: several if they fit each of them, none if they fit no published network.

    A family fits if it has most of the modules, more than or as many as the others, and each change of them has the shape of its
    weight.
    """
    counts = {kind: _fitting(file, kind) for kind in get_args(Kind)}
    most = max(counts.values())
    modules = sum(len(changes) for changes in file.changes.values())
    return tuple(kind for kind, count in counts.items() if count == most and 2 * most > modules)


def _fitting(file: LoraFile, kind: Kind) -> int:
    """How many changes are of modules that the family has; 0 if one of them has another shape."""
    weights = _weights(kind)
    count = 0
    for part, changes in file.changes.items():
        for module, roles in changes.items():
            weight = weights.get(part, {}).get(module)
            if weight is None:
                continue
            try:
                if kind_of(roles) is not None:
                    check_fit(weight, factor_shapes(roles, file.tensors))
            except ValueError:
                return 0
            count += 1
    return count


@functools.cache
def _weights(kind: Kind) -> Mapping[Part, Mapping[str, Shape]]:
    """The shape of each weight by part, and by every name that an adapter may have for its module."""
    networks: dict[Part, tuple[AnyConfig, TensorShapes]] = {"unet": (_UNETS[kind], unet_shapes(_UNETS[kind]))}
    networks |= {part: (config, text_shapes(config)) for part, config in _TEXTS[kind].items()}
    return {
        part: {name: shapes[f"{module}.weight"] for name, module in modules_by_name(shapes, config).items()}
        for part, (config, shapes) in networks.items()
    }
