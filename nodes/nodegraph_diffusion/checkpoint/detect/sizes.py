"""Sizes of networks from shapes alone: for files that no config lies beside.

What shapes do not tell is as in the published models: 32 groups, and 8 heads, or heads of 64 where the transformers are entered
through linear layers.
"""

from __future__ import annotations

from typing import NamedTuple

from nodegraph_diffusion.checkpoint.detect.model import Naming
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes, multiple
from nodegraph_diffusion.networks.config import UNetConfig, VAEConfig


def unet_sizes(shapes: Shapes) -> UNetConfig:
    """The sizes of a UNet2DConditionModel. Raises CheckpointError, ValueError."""
    model_channels, in_channels, _, _ = shapes.get("conv_in.weight", 4)
    levels = range(shapes.count("down_blocks.{}.resnets.0.conv1.weight"))
    widths = [shapes.get(f"down_blocks.{level}.resnets.0.conv1.weight", 4)[0] for level in levels]
    depths = [_depth(shapes, f"down_blocks.{level}.attentions.0.") for level in levels]
    middle = "mid_block.attentions.0."
    proj_in = shapes.tensors.get(f"{middle}proj_in.weight")
    linear = proj_in is not None and len(proj_in.shape) == 2
    added, guidance = "add_embedding.linear_1.weight", "time_embedding.cond_proj.weight"
    return UNetConfig(
        in_channels=in_channels,
        out_channels=shapes.get("conv_out.weight", 4)[0],
        model_channels=model_channels,
        channel_mult=tuple(multiple(width, model_channels) for width in widths),
        num_res_blocks=shapes.count("down_blocks.0.resnets.{}.conv1.weight"),
        transformer_depth=tuple(depths),
        middle_depth=_depth(shapes, middle),
        num_heads=None if linear else 8,
        head_channels=64 if linear else None,
        context_dim=shapes.get(f"{middle}transformer_blocks.0.attn2.to_k.weight", 2)[1],
        linear_projection=linear,
        added_dim=shapes.get(added, 2)[1] if added in shapes else None,
        guidance_dim=shapes.get(guidance, 2)[1] if guidance in shapes else None,
    )


def _depth(shapes: Shapes, transformer: str) -> int:
    return shapes.count(f"{transformer}transformer_blocks.{{}}.attn2.to_k.weight")


class _VAENames(NamedTuple):
    """Names of the tensors that size an autoencoder; `attention` are those of which one is there where it has attention."""

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


def vae_config(shapes: Shapes, naming: Naming, prefix: str, scaling: float) -> VAEConfig:
    """The sizes of an autoencoder below `prefix`. Raises CheckpointError, ValueError."""
    names = _VAE[naming]
    channels = shapes.get(f"{prefix}encoder.conv_in.weight", 4)[0]
    level = prefix + names.level
    widths = [shapes.get(level.format(i), 4)[0] for i in range(shapes.count(level))]
    return VAEConfig(
        channels=channels,
        channel_mult=tuple(multiple(width, channels) for width in widths),
        num_res_blocks=shapes.count(prefix + names.block),
        latent_channels=shapes.get(f"{prefix}post_quant_conv.weight", 4)[0],
        mid_attention=any(prefix + name in shapes for name in names.attention),
        scaling_factor=scaling,
    )
