"""The sizes of UNets and autoencoders from shapes, for files without a config.

Shapes do not show everything; the rest is as in the published models: 32 groups, and 8 heads, or heads of width 64 if the
transformers begin with linear layers.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from nodegraph_diffusion.checkpoint.detect.shapes import Shapes, multiple
from nodegraph_diffusion.checkpoint.families import Naming
from nodegraph_diffusion.networks.config import UNetConfig, VAEConfig

_GUIDANCE = "time_embedding.cond_proj.weight"  # in both layouts
_LDM_SIZES = "label_emb.0.0.weight"
_CONTEXT_OF_ADDED = {2816: 2048, 2560: 1280}  # the width of prompts by that of the vector conditioning: XL and its refiner


def ldm_unet_config(shapes: Shapes, whole: bool = True) -> UNetConfig:
    """The sizes of a UNet with LDM's names; if not `whole`, without its up half. Raises CheckpointError, ValueError."""
    model_channels, in_channels, _, _ = shapes.get("input_blocks.0.0.weight", 4)
    widths: list[list[int]] = [[]]
    transformers: list[list[str]] = [[]]
    block = 1
    while True:
        name = f"input_blocks.{block}."
        if f"{name}0.op.weight" in shapes:
            widths.append([])
            transformers.append([])
        elif f"{name}0.in_layers.2.weight" in shapes:
            widths[-1].append(shapes.get(f"{name}0.in_layers.2.weight", 4)[0])
            transformers[-1].append(f"{name}1.")
        else:
            break
        block += 1
    ups: list[list[str]] = []
    if whole:
        count = len(widths[0]) + 1
        ups = [[f"output_blocks.{level * count + i}.1." for i in range(count)] for level in reversed(range(len(widths)))]
    attention = _depth(shapes, "middle_block.1.") > 0
    if not attention and "middle_block.2.in_layers.2.weight" in shapes:  # the second residual block comes after a transformer
        shapes.get("middle_block.1.transformer_blocks.0.attn2.to_k.weight", 2)
    middle = ("middle_block.0.in_layers.2.weight", f"middle_block.{1 + attention}.in_layers.2.weight")
    return _unet_config(
        shapes,
        transformers=_Transformers(down=transformers, up=ups, middle="middle_block.1."),
        in_channels=in_channels,
        out_channels=shapes.get("out.2.weight", 4)[0] if whole else in_channels,
        model_channels=model_channels,
        channel_mult=tuple(multiple(level[-1] if level else 0, model_channels) for level in widths),
        num_res_blocks=len(widths[0]),
        middle_blocks=sum(name in shapes for name in middle),
        added_dim=shapes.get(_LDM_SIZES, 2)[1] if _LDM_SIZES in shapes else None,
    )


def diffusers_unet_config(shapes: Shapes, whole: bool = True) -> UNetConfig:
    """The sizes of diffusers' UNet2DConditionModel; if not `whole`, without its up half. Raises CheckpointError, ValueError."""
    model_channels, in_channels, _, _ = shapes.get("conv_in.weight", 4)
    levels = range(shapes.count("down_blocks.{}.resnets.0.conv1.weight"))
    widths = [shapes.get(f"down_blocks.{level}.resnets.0.conv1.weight", 4)[0] for level in levels]
    blocks = shapes.count("down_blocks.0.resnets.{}.conv1.weight")
    added = "add_embedding.linear_1.weight"
    return _unet_config(
        shapes,
        transformers=_Transformers(
            down=[[f"down_blocks.{level}.attentions.{i}." for i in range(blocks)] for level in levels],
            up=[[f"up_blocks.{level}.attentions.{i}." for i in range(blocks + 1)] for level in reversed(levels) if whole],
            middle="mid_block.attentions.0.",
        ),
        in_channels=in_channels,
        out_channels=shapes.get("conv_out.weight", 4)[0] if whole else in_channels,
        model_channels=model_channels,
        channel_mult=tuple(multiple(width, model_channels) for width in widths),
        num_res_blocks=blocks,
        middle_blocks=shapes.count("mid_block.resnets.{}.conv1.weight"),
        added_dim=shapes.get(added, 2)[1] if added in shapes else None,
    )


class _Transformers(NamedTuple):
    """Where the transformers of a UNet are if it has them: the beginnings of their names, by level from the finest."""

    down: list[list[str]]
    up: list[list[str]]
    middle: str


def _unet_config(shapes: Shapes, *, transformers: _Transformers, **sizes: Any) -> UNetConfig:
    """The config with these `sizes` and those of the transformers. Raises CheckpointError, ValueError."""
    downs = [[_depth(shapes, name) for name in level] for level in transformers.down]
    if uneven := [level for level in downs if len(set(level)) > 1]:
        raise ValueError(f"transformers of {uneven[0]} blocks in one level on the way down, not of one depth")
    depths = tuple(level[0] if level else 0 for level in downs)
    ups = tuple(tuple(_depth(shapes, name) for name in level) for level in transformers.up)
    even = all(set(level) == {depth} for level, depth in zip(ups, depths, strict=False))
    middle_depth = _depth(shapes, transformers.middle)
    names = [name for level in transformers.down for name in level if _depth(shapes, name)]
    last = transformers.middle if middle_depth or not names else names[-1]
    if not (names or middle_depth or transformers.up) and sizes["added_dim"] in _CONTEXT_OF_ADDED:
        linear, context_dim = True, _CONTEXT_OF_ADDED[sizes["added_dim"]]  # a half without any transformer, as in small ControlNets
    else:
        linear = shapes.rank(f"{last}proj_in.weight") == 2
        context_dim = shapes.get(f"{last}transformer_blocks.0.attn2.to_k.weight", 2)[1]
    return UNetConfig(
        transformer_depth=depths,
        up_depth=None if even else ups,
        middle_depth=middle_depth,
        num_heads=None if linear else 8,
        head_channels=64 if linear else None,  # Stable Diffusion 2 changed both at once
        context_dim=context_dim,
        linear_projection=linear,
        guidance_dim=shapes.get(_GUIDANCE, 2)[1] if _GUIDANCE in shapes else None,
        **sizes,
    )


def _depth(shapes: Shapes, transformer: str) -> int:
    """How many blocks the transformer with this name has; 0 if there is none."""
    return shapes.count(f"{transformer}transformer_blocks.{{}}.attn2.to_k.weight")


class _VAENames(NamedTuple):
    """The tensors that show the sizes of an autoencoder; one of `attention` is there if it has attention."""

    level: str
    block: str
    attention: tuple[str, ...]


_VAE: dict[Naming, _VAENames] = {
    "ldm": _VAENames(
        "encoder.down.{}.block.0.conv1.weight", "encoder.down.0.block.{}.conv1.weight", ("encoder.mid.attn_1.q.weight",)
    ),
    "diffusers": _VAENames(
        "encoder.down_blocks.{}.resnets.0.conv1.weight",
        "encoder.down_blocks.0.resnets.{}.conv1.weight",
        tuple(f"encoder.mid_block.attentions.0.{query}.weight" for query in ("to_q", "query")),
    ),
}


def vae_config(shapes: Shapes, naming: Naming, scaling: float) -> VAEConfig:
    """The sizes of an autoencoder. Raises CheckpointError, ValueError."""
    names = _VAE[naming]
    channels = shapes.get("encoder.conv_in.weight", 4)[0]
    widths = [shapes.get(names.level.format(i), 4)[0] for i in range(shapes.count(names.level))]
    return VAEConfig(
        channels=channels,
        channel_mult=tuple(multiple(width, channels) for width in widths),
        num_res_blocks=shapes.count(names.block),
        latent_channels=shapes.get("post_quant_conv.weight", 4)[0],
        mid_attention=any(name in shapes for name in names.attention),
        scaling_factor=scaling,
    )
