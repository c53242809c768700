"""Loaded networks compute channels-last throughout, because copies between layouts would cost more than they save."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nodegraph_diffusion.checkpoint import Checkpoint, describe, load_unet, load_vae
from nodegraph_diffusion.checkpoint.layouts.ldm import PREFIXES
from nodegraph_diffusion.networks.attention import pixels_as_tokens
from tests.support import small_networks as small


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    networks = {"unet": small.our_unet(), "vae": small.our_vae(), "text_encoder": small.our_text_encoder()}
    state = {
        PREFIXES["sd1"][part] + key: value for part, network in networks.items() for key, value in network.state_dict().items()
    }
    file: Path = tmp_path_factory.mktemp("ldm") / "model.safetensors"
    save_file(state, file)
    return describe(file).model()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_loaded_convolutions_are_channels_last(checkpoint, dtype):
    for network in (load_unet(checkpoint.unet, "cpu", dtype), load_vae(checkpoint.vae, "cpu", dtype)):
        weights = [parameter for parameter in network.parameters() if parameter.dim() == 4]
        assert weights
        assert all(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_feature_maps_stay_channels_last_without_copies(checkpoint, dtype, monkeypatch):
    copied = []

    def noting(x: torch.Tensor) -> torch.Tensor:
        tokens = pixels_as_tokens(x)
        copied.append(tokens.data_ptr() != x.data_ptr())
        return tokens

    monkeypatch.setattr("nodegraph_diffusion.networks.attention.pixels_as_tokens", noting)
    monkeypatch.setattr("nodegraph_diffusion.networks.vae.pixels_as_tokens", noting)
    latent = small.noise(2, 4, 8, 8).to(dtype)
    predicted = load_unet(checkpoint.unet, "cpu", dtype)(latent, torch.tensor([3.0, 871.5]), small.noise(2, 16, 128).to(dtype))
    decoded = load_vae(checkpoint.vae, "cpu", dtype).decode(latent)
    for value in (predicted, decoded):
        assert value.is_contiguous(memory_format=torch.channels_last)
    assert copied == [False] * len(copied)
    assert copied


def test_both_layouts_compute_the_same(checkpoint):
    latent = small.noise(2, 4, 8, 8)
    expected = small.our_vae().decode(latent)
    assert small.difference(load_vae(checkpoint.vae, "cpu", torch.float32).decode(latent), expected) <= small.TOLERANCE
