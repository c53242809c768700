"""UNet configs: the published ones, and the special settings of each family for small networks."""

from __future__ import annotations

import torch

from nodegraph_diffusion.networks.unet import UNetConfig
from tests.support import small_networks as small

SD2 = {"num_heads": None, "head_channels": 16, "linear_projection": True}


SDXL = {**SD2, "transformer_depth": (0, 2, 3), "middle_depth": 3, "added_dim": 1600}


REFINER = {**SDXL, "channel_mult": (1, 2, 3, 3), "transformer_depth": (0, 2, 2, 0), "middle_depth": 2, "norm_groups": 16}


TIMESTEPS = torch.tensor([3.0, 871.5])


CONTEXT = small.noise(2, 16, small.UNET.context_dim)


PUBLISHED = {
    "sd15-ldm": UNetConfig(),
    "sd15-inpainting-ldm": UNetConfig(in_channels=9),
    "sd15-instruct-pix2pix-ldm": UNetConfig(in_channels=8),
    "sd21-ldm": UNetConfig(num_heads=None, head_channels=64, context_dim=1024, linear_projection=True),
    "sdxl-base-ldm": UNetConfig(
        channel_mult=(1, 2, 4),
        transformer_depth=(0, 2, 10),
        middle_depth=10,
        num_heads=None,
        head_channels=64,
        context_dim=2048,
        linear_projection=True,
        added_dim=2816,
    ),
}

_XL = {"num_heads": None, "head_channels": 64, "context_dim": 2048, "linear_projection": True, "added_dim": 2816}
DISTILLED = {
    "ssd-1b": UNetConfig(
        channel_mult=(1, 2, 4),
        transformer_depth=(0, 2, 4),
        up_depth=((0, 0, 0), (2, 1, 1), (4, 4, 10)),
        middle_blocks=1,
        middle_depth=0,
        **_XL,
    ),
    "segmind-vega": UNetConfig(
        channel_mult=(1, 2, 4),
        transformer_depth=(0, 1, 2),
        middle_blocks=1,
        middle_depth=0,
        **_XL,
    ),
    "bk-sdm-base": UNetConfig(num_res_blocks=1),
    "small-sd": UNetConfig(num_res_blocks=1, middle_blocks=0, middle_depth=0),
    "tiny-sd": UNetConfig(channel_mult=(1, 2, 4), transformer_depth=(1, 1, 1), num_res_blocks=1, middle_blocks=0, middle_depth=0),
}
"""The published networks that were distilled to fewer blocks: Segmind's and those of Kim et al. 2023 (BK-SDM)."""
