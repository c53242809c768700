"""A network that starts from a narrower one computes the same."""

from dataclasses import replace

import pytest
import torch

from nodegraph_diffusion.networks.config import VAEConfig
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.training.widening import widen

NARROW = VAEConfig(
    channels=4, channel_mult=(1, 2, 4), num_res_blocks=1, latent_channels=3, norm_groups=1, mid_attention=False, scaling_factor=1.0
)


@pytest.mark.parametrize(("channels", "multiples"), [(8, (1, 2, 4)), (8, (1, 3, 2)), (4, (1, 4, 8))])
def test_a_wider_network_computes_the_same_with_other_weights(channels: int, multiples: tuple[int, ...]) -> None:
    narrow, wide = AutoencoderKL(NARROW), AutoencoderKL(replace(NARROW, channels=channels, channel_mult=multiples))
    before = [each.clone() for each in narrow.parameters()]
    widen(narrow, wide)
    pixels = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        latents = [each.encode(pixels)[0] for each in (narrow, wide)]
        decoded = [each.decode(latents[0]) for each in (narrow, wide)]
    torch.testing.assert_close(latents[1], latents[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(decoded[1], decoded[0], rtol=0, atol=1e-5)
    assert all(torch.equal(a, b) for a, b in zip(before, narrow.parameters(), strict=True))


def test_copies_of_a_channel_learn_different_things() -> None:
    narrow, wide = AutoencoderKL(NARROW), AutoencoderKL(replace(NARROW, channels=8))
    widen(narrow, wide)
    wide.encode(torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0)))[0].square().sum().backward()
    gradient = wide.encoder.conv_in.weight.grad
    assert gradient is not None
    torch.testing.assert_close(wide.encoder.conv_in.weight[:4], wide.encoder.conv_in.weight[4:])
    assert not torch.allclose(gradient[:4], gradient[4:], rtol=0.01)


@pytest.mark.parametrize(
    ("channels", "multiples", "reason"),
    [(6, (1, 2, 4), "multiples of"), (2, (1, 2, 4), "multiples of"), (4, (1, 2, 2), "different layers")],
)
def test_networks_that_do_not_fit_are_refused(channels: int, multiples: tuple[int, ...], reason: str) -> None:
    wide = AutoencoderKL(replace(NARROW, channels=channels, channel_mult=multiples))
    with pytest.raises(ValueError, match=reason):
        widen(AutoencoderKL(NARROW), wide)
