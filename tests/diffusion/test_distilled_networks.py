"""Networks with fewer blocks (SSD-1B, Segmind-Vega, BK-SDM, tiny-sd, small-sd): read from names and configs, equal to diffusers."""

from __future__ import annotations

import dataclasses
import json

import diffusers
import pytest
import torch
from safetensors.torch import save_file

from nodegraph_diffusion.checkpoint import describe, load_unet
from nodegraph_diffusion.checkpoint.layouts.configs import read_unet, write_unet
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.networks.shapes import unet_shapes
from nodegraph_diffusion.networks.unet import timestep_embedding
from tests.support import small_networks as small
from tests.support.slow import slow_except
from tests.support.unet_configs import CONTEXT, DISTILLED, SDXL, TIMESTEPS

SMALL = {
    "ssd-1b": dataclasses.replace(
        small.UNET,
        **{**SDXL, "head_channels": 32, "middle_depth": 0},
        up_depth=((0, 0, 0), (2, 1, 1), (3, 2, 4)),
        middle_blocks=1,
    ),
    "small-sd": dataclasses.replace(small.UNET, num_res_blocks=1, middle_blocks=0, middle_depth=0),
    "tiny-sd": dataclasses.replace(
        small.UNET, channel_mult=(1, 2), transformer_depth=(1, 1), num_res_blocks=1, middle_blocks=0, middle_depth=0
    ),
    "bk-sdm-base": dataclasses.replace(small.UNET, num_res_blocks=1),
}
CONFIGS = {  # what the models' pages publish, as far as it differs from Stable Diffusion's
    "ssd-1b": {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [1, [2, 2], [4, 4]],
        "reverse_transformer_layers_per_block": [[4, 4, 10], [2, 1, 1], 1],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "segmind-vega": {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
        "mid_block_type": "UNetMidBlock2D",
        "transformer_layers_per_block": [1, [1, 1], [2, 2]],
        "reverse_transformer_layers_per_block": [[2, 2, 2], [1, 1, 1], 1],
        "attention_head_dim": [5, 10, 20],
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    "bk-sdm-base": {"layers_per_block": 1},
    "small-sd": {"layers_per_block": 1, "mid_block_type": None},
    "tiny-sd": {
        "block_out_channels": [320, 640, 1280],
        "down_block_types": ["CrossAttnDownBlock2D"] * 3,
        "up_block_types": ["CrossAttnUpBlock2D"] * 3,
        "layers_per_block": 1,
        "mid_block_type": None,
    },
}
SD1 = {
    "in_channels": 4,
    "out_channels": 4,
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [*["CrossAttnDownBlock2D"] * 3, "DownBlock2D"],
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2D"] * 3],
    "layers_per_block": 2,
    "attention_head_dim": 8,
    "cross_attention_dim": 768,
}


@pytest.mark.parametrize("name", DISTILLED)
def test_published_configs(name):
    config = read_unet(SD1 | CONFIGS[name])
    assert config == DISTILLED[name]
    assert read_unet(json.loads(json.dumps(write_unet(config, 64)))) == config


@pytest.mark.parametrize("name", DISTILLED)
def test_names_and_shapes_of_diffusers_networks_are_ours(name):
    """diffusers builds the network from the published config; every tensor of it has a place in ours, and no other one is there."""
    with torch.device("meta"):
        reference = diffusers.UNet2DConditionModel(**SD1 | CONFIGS[name])
    modules = {theirs: ours for ours, theirs in unet_modules(DISTILLED[name]).items()}
    theirs = {rename(key, modules): tuple(value.shape) for key, value in reference.state_dict().items()}
    assert theirs == unet_shapes(DISTILLED[name])


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("layout", slow_except(["diffusers file"], ["folder", "diffusers file", "ldm file"]))
def test_network_equals_diffusers(tmp_path, name, layout):
    """A file without a config shows the depth of each block by its names, though not heads of another width than published."""
    config = SMALL[name]
    if layout != "folder" and config.head_channels:
        config = dataclasses.replace(config, model_channels=64, head_channels=64, context_dim=128)
    reference = small.reference_unet(config)
    file = tmp_path / "unet.safetensors"
    if layout == "folder":
        reference.save_pretrained(tmp_path / "unet")
        file = tmp_path / "unet"
    elif layout == "diffusers file":
        save_file(reference.state_dict(), file)
    else:
        modules = {theirs: ours for ours, theirs in unet_modules(config).items()}
        save_file({rename(key, modules): value for key, value in reference.state_dict().items()}, file)
    found = describe(file).unet()
    assert found.config == config
    x, more = small.noise(2, 4, 8, 8), {}
    added = None
    if config.added_dim is not None:
        time_ids, pooled = torch.tensor([[512.0, 384, 0, 16, 512, 384]] * 2), small.noise(2, config.added_dim - 6 * 256)
        more = {"added_cond_kwargs": {"text_embeds": pooled, "time_ids": time_ids}}
        added = torch.cat([pooled, timestep_embedding(time_ids.flatten(), 256).reshape(2, -1)], dim=1)
    expected = reference(x, TIMESTEPS, CONTEXT, **more).sample
    ours = load_unet(found, "cpu", torch.float32)(x, TIMESTEPS, CONTEXT, added)
    assert small.difference(ours, expected) <= small.TOLERANCE


def test_uneven_depths_on_the_way_down_are_refused():
    with pytest.raises(ValueError, match="transformer_layers_per_block is"):
        read_unet(SD1 | CONFIGS["ssd-1b"] | {"transformer_layers_per_block": [1, [2, 1], [4, 4]]})
    for wrong in ([[4, 4, 10], [2, 1]], [[4, 4], [2, 1, 1], 1], [["a"] * 3, [2, 1, 1], 1], 3):
        with pytest.raises(ValueError, match=r"depth|layers"):
            read_unet(SD1 | CONFIGS["ssd-1b"] | {"reverse_transformer_layers_per_block": wrong})
