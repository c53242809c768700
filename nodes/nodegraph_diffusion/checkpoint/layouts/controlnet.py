"""The names of tensors in a ControlNet's file as its authors publish it, and of modules in diffusers."""

from __future__ import annotations

from collections.abc import Sequence

from nodegraph_diffusion.checkpoint.files.json_file import Json
from nodegraph_diffusion.checkpoint.layouts.configs import write_unet
from nodegraph_diffusion.checkpoint.layouts.modules import unet_modules
from nodegraph_diffusion.networks.config import HINT_WIDTHS, UNetConfig

PREFIX = "control_model."
_UNET_ONLY = (  # options of a UNet2DConditionModel that a ControlNetModel does not have
    "attention_type",
    "center_input_sample",
    "conv_in_kernel",
    "conv_out_kernel",
    "cross_attention_norm",
    "dual_cross_attention",
    "out_channels",
    "sample_size",
    "time_cond_proj_dim",
    "time_embedding_type",
    "up_block_types",
)
DIFFERENCE_MARK = "difference"  # marks a file whose tensors are to be added to the UNet's weights


def controlnet_modules(config: UNetConfig, hint_widths: Sequence[int] = HINT_WIDTHS) -> dict[str, str]:
    """LDM module name -> diffusers module name, for a whole ControlNet."""
    table = unet_modules(config)
    blocks = 2 * (len(hint_widths) - 1)
    table |= {
        "input_hint_block.0": "controlnet_cond_embedding.conv_in",
        f"input_hint_block.{2 + 2 * blocks}": "controlnet_cond_embedding.conv_out",
    }
    table |= {f"input_hint_block.{2 + 2 * i}": f"controlnet_cond_embedding.blocks.{i}" for i in range(blocks)}
    skips = len(config.channel_mult) * (config.num_res_blocks + 1)
    table |= {f"zero_convs.{i}.0": f"controlnet_down_blocks.{i}" for i in range(skips)}
    return table | {"middle_block_out.0": "controlnet_mid_block"}


def write_controlnet(config: UNetConfig, hint_widths: Sequence[int]) -> Json:
    """The config of diffusers' ControlNetModel of these sizes."""
    json = {name: value for name, value in write_unet(config, 0).items() if name not in _UNET_ONLY}
    return {
        **json,
        "_class_name": "ControlNetModel",
        "conditioning_channels": 3,
        "conditioning_embedding_out_channels": list(hint_widths),
        "controlnet_conditioning_channel_order": "rgb",
        "global_pool_conditions": False,
    }
