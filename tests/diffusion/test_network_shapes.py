"""The shapes that files are checked against are those of the networks that torch builds."""

from __future__ import annotations

import dataclasses

import pytest

from nodegraph_diffusion.checkpoint.load.blank_network import blank
from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel
from nodegraph_diffusion.networks.controlnet import ControlNet
from nodegraph_diffusion.networks.shapes import controlnet_shapes, text_shapes, unet_shapes, vae_shapes
from nodegraph_diffusion.networks.unet import UNet, UNetConfig
from nodegraph_diffusion.networks.vae import AutoencoderKL, VAEConfig
from tests.support import small_networks as small
from tests.support.unet_configs import DISTILLED, PUBLISHED, REFINER, SDXL

UNETS = {
    **PUBLISHED,
    **DISTILLED,
    "small sdxl": dataclasses.replace(small.UNET, **SDXL),
    "small refiner": dataclasses.replace(small.UNET, **REFINER),
    "labels": dataclasses.replace(small.UNET, labels=("cat", "house")),
    "labels in boxes, a map": dataclasses.replace(small.UNET, labels=("cat",), box_frequencies=3, beside="map", in_channels=12),
    "guidance distilled, no attention in the middle": dataclasses.replace(small.UNET, guidance_dim=24, middle_depth=0),
}


def shapes_of(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


@pytest.mark.slow
@pytest.mark.parametrize("config", UNETS.values(), ids=UNETS)
def test_shapes_of_unets_and_control_nets(config: UNetConfig):
    assert unet_shapes(config) == shapes_of(blank(UNet, config))
    assert controlnet_shapes(config) == shapes_of(blank(ControlNet, config))


@pytest.mark.parametrize(
    "config",
    [VAEConfig(), small.VAE, dataclasses.replace(small.VAE, mid_attention=False, channel_mult=(1, 1, 2, 2), num_res_blocks=1)],
)
def test_shapes_of_autoencoders(config: VAEConfig):
    assert vae_shapes(config) == shapes_of(blank(AutoencoderKL, config))


@pytest.mark.parametrize("config", [CLIPTextConfig(), small.TEXT, dataclasses.replace(small.TEXT, projection=7)])
def test_shapes_of_text_encoders(config: CLIPTextConfig):
    assert text_shapes(config) == shapes_of(blank(CLIPTextModel, config))
