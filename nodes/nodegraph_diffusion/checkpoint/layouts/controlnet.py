"""The names of tensors in a ControlNet's file as its authors publish it, and of modules in diffusers."""

from __future__ import annotations

from collections.abc import Sequence

from nodegraph_diffusion.checkpoint.layouts.modules import unet_modules
from nodegraph_diffusion.networks.config import HINT_WIDTHS, UNetConfig

PREFIX = "control_model."
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
