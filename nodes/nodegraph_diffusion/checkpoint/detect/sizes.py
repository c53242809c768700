"""The sizes of UNets and autoencoders from shapes, for files without a config.

Shapes do not show everything; the rest is as in the published models: 32 groups, and 8 heads, or heads of width 64 if the
transformers begin with linear layers.
"""

from __future__ import annotations

from typing import NamedTuple

from nodegraph_diffusion.checkpoint.detect.shapes import Shapes, multiple
from nodegraph_diffusion.checkpoint.families import Naming
from nodegraph_diffusion.networks.config import UNetConfig, VAEConfig

_LDM_GUIDANCE = "time_embedding.cond_proj.weight"
_LDM_SIZES = "label_emb.0.0.weight"


def ldm_unet_config(shapes: Shapes, whole: bool = True) -> UNetConfig:
    """The sizes of a UNet with LDM's names; if not `whole`, without its up half. Raises CheckpointError, ValueError."""
    model_channels, in_channels, _, _ = shapes.get("input_blocks.0.0.weight", 4)
    levels: list[list[int]] = [[]]
    depths: list[int] = [0]
    block = 1
    transformer = ""
    while True:
        name = f"input_blocks.{block}."
        if f"{name}0.op.weight" in shapes:
            levels.append([])
            depths.append(0)
        elif f"{name}0.in_layers.2.weight" in shapes:
            levels[-1].append(shapes.get(f"{name}0.in_layers.2.weight", 4)[0])
            depths[-1] = _depth(shapes, f"{name}1.")
            transformer = f"{name}1." if depths[-1] else transformer
        else:
            break
        block += 1
    middle_depth = _depth(shapes, "middle_block.1.")
    transformer = "middle_block.1." if middle_depth else transformer
    linear = shapes.rank(f"{transformer}proj_in.weight") == 2
    return UNetConfig(
        in_channels=in_channels,
        out_channels=shapes.get("out.2.weight", 4)[0] if whole else in_channels,
        model_channels=model_channels,
        channel_mult=tuple(multiple(widths[-1] if widths else 0, model_channels) for widths in levels),
        num_res_blocks=len(levels[0]),
        transformer_depth=tuple(depths),
        middle_depth=middle_depth,
        num_heads=None if linear else 8,
        head_channels=64 if linear else None,  # Stable Diffusion 2 changed both at once
        context_dim=shapes.get(f"{transformer}transformer_blocks.0.attn2.to_k.weight", 2)[1],
        linear_projection=linear,
        added_dim=shapes.get(_LDM_SIZES, 2)[1] if _LDM_SIZES in shapes else None,
        guidance_dim=shapes.get(_LDM_GUIDANCE, 2)[1] if _LDM_GUIDANCE in shapes else None,
    )


def diffusers_unet_config(shapes: Shapes) -> UNetConfig:
    """The sizes of diffusers' UNet2DConditionModel. Raises CheckpointError, ValueError."""
    model_channels, in_channels, _, _ = shapes.get("conv_in.weight", 4)
    levels = range(shapes.count("down_blocks.{}.resnets.0.conv1.weight"))
    widths = [shapes.get(f"down_blocks.{level}.resnets.0.conv1.weight", 4)[0] for level in levels]
    middle = "mid_block.attentions.0."
    linear = shapes.rank(f"{middle}proj_in.weight") == 2
    added, guidance = "add_embedding.linear_1.weight", "time_embedding.cond_proj.weight"
    return UNetConfig(
        in_channels=in_channels,
        out_channels=shapes.get("conv_out.weight", 4)[0],
        model_channels=model_channels,
        channel_mult=tuple(multiple(width, model_channels) for width in widths),
        num_res_blocks=shapes.count("down_blocks.0.resnets.{}.conv1.weight"),
        transformer_depth=tuple(_depth(shapes, f"down_blocks.{level}.attentions.0.") for level in levels),
        middle_depth=_depth(shapes, middle),
        num_heads=None if linear else 8,
        head_channels=64 if linear else None,
        context_dim=shapes.get(f"{middle}transformer_blocks.0.attn2.to_k.weight", 2)[1],
        linear_projection=linear,
        added_dim=shapes.get(added, 2)[1] if added in shapes else None,
        guidance_dim=shapes.get(guidance, 2)[1] if guidance in shapes else None,
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
