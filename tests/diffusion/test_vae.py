"""The autoencoder equals diffusers' in every dtype, and can be trained."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from nodegraph_diffusion.checkpoint.layouts.modules import rename, vae_modules
from nodegraph_diffusion.networks.vae import AutoencoderKL, VAEConfig
from tests.support import small_networks as small
from tests.support.synthetic_checkpoints import read_layout


def test_default_has_the_published_names_and_shapes():
    with torch.device("meta"):
        vae = AutoencoderKL(VAEConfig())
    ours = {f"first_stage_model.{key}": list(value.shape) for key, value in vae.state_dict().items()}
    assert ours == {key: shape for key, shape in read_layout("sd15-ldm").items() if key.startswith("first_stage")}


@pytest.mark.parametrize("changes", [{}, {"mid_attention": False}, {"channel_mult": (1, 1, 2, 2), "num_res_blocks": 1}])
@pytest.mark.parametrize("size", [(32, 32), (44, 36), (41, 30)])
def test_vae_equals_diffusers(changes, size):
    config = dataclasses.replace(small.VAE, **changes)
    reference, vae = small.reference_vae(config), AutoencoderKL(config)
    weights, table = reference.state_dict(), vae_modules(config)
    vae.load_state_dict({key: weights.pop(rename(key, table)).reshape(value.shape) for key, value in vae.state_dict().items()})
    assert not weights

    expected = reference.encode(small.noise(2, 3, *size)).latent_dist
    mean, log_variance = vae.encode(small.noise(2, 3, *size))
    assert small.difference(mean, expected.mean) <= small.TOLERANCE
    assert small.difference(log_variance, expected.logvar) <= small.TOLERANCE
    latent = small.noise(2, 4, *mean.shape[-2:])
    assert small.difference(vae.decode(latent), reference.decode(latent).sample) <= small.TOLERANCE


def test_log_variance_is_clamped():
    vae = small.our_vae()
    vae.quant_conv.bias[4:] = torch.tensor([-1e3, 1e3, -1e3, 1e3])
    _, log_variance = vae.encode(small.noise(1, 3, 16, 16))
    assert log_variance.amin() == -30
    assert log_variance.amax() == 20


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_close(dtype):
    vae, pixels, latent = small.our_vae(), small.noise(1, 3, 32, 32), small.noise(1, 4, 8, 8)
    expected = vae.encode(pixels)[0], vae.decode(latent)
    vae.to(dtype)
    results = vae.encode(pixels.to(dtype))[0], vae.decode(latent.to(dtype))
    for half, full in zip(results, expected, strict=True):
        assert half.dtype == dtype
        assert small.difference(half, full) < small.half_tolerance(dtype)


def test_gradients_reach_every_parameter():
    vae = small.our_vae().requires_grad_(True)
    mean, log_variance = vae.encode(small.noise(1, 3, 32, 32))
    (vae.decode(mean).square().mean() + log_variance.square().mean()).backward()
    without = [name for name, parameter in vae.named_parameters() if parameter.grad is None or not parameter.grad.any()]
    assert without == []


def test_factor_counts_the_levels():
    assert VAEConfig().factor == 8
    assert small.VAE.factor == 4


def test_impossible_sizes_are_named():
    with pytest.raises(ValueError, match="norm_groups 5 does not divide the width 32"):
        dataclasses.replace(small.VAE, norm_groups=5)
