"""Small ControlNets with synthetic weights: ours and diffusers'."""

from __future__ import annotations

import diffusers

from nodegraph_diffusion.networks.config import UNetConfig
from nodegraph_diffusion.networks.controlnet import ControlNet
from tests.support import small_networks as small
from tests.support import synthetic_checkpoints as synthetic


@small.copied
def our_control(config: UNetConfig = small.UNET) -> ControlNet:
    network = ControlNet(config).eval().requires_grad_(False)
    synthetic.fill(network)
    return network


@small.copied
def theirs(config: UNetConfig) -> diffusers.ControlNetModel:
    widths = [mult * config.model_channels for mult in config.channel_mult]
    network = diffusers.ControlNetModel(
        block_out_channels=widths,
        down_block_types=["CrossAttnDownBlock2D" if here else "DownBlock2D" for here in config.transformer_depth],
        layers_per_block=config.num_res_blocks,
        cross_attention_dim=config.context_dim,
        attention_head_dim=config.num_heads or [width // config.head_channels for width in widths],
        use_linear_projection=config.linear_projection,
        norm_num_groups=config.norm_groups,
    )
    synthetic.fill(network)
    return network.eval().requires_grad_(False)
