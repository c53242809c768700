"""The EmptyLatent, VAEEncode, VAEDecode and Noise nodes."""

from __future__ import annotations

import pytest
import torch

from nodegraph_nodes.models.parts import load_vae_network
from nodegraph_nodes.nodes.latent import empty_latent, noise, vae_decode, vae_encode
from nodegraph_nodes.types import Image, Latent
from tests.support.small_model import SIDE, VAE


def pictures(height, width, batch=1):
    return Image(torch.rand(batch, height, width, 3, generator=torch.Generator().manual_seed(5)))


def latent(batch=1, h=4, w=6, channels=4):
    samples = torch.randn(batch, channels, h, w, generator=torch.Generator().manual_seed(6))
    return Latent(samples, (h * VAE.factor, w * VAE.factor))


# --- EmptyLatent


def test_empty_latent_has_the_native_size(model):
    empty = empty_latent(model.vae)
    assert empty.size == (SIDE, SIDE)
    assert torch.equal(empty.samples, torch.zeros(1, 4, SIDE // VAE.factor, SIDE // VAE.factor))


def test_empty_latent_takes_a_size_in_pixels(model):
    empty = empty_latent(model.vae, width=50, height=33, batch=3)
    assert empty.size == (33, 50)
    assert empty.samples.shape == (3, 4, 5, 7)
    assert empty.padding == (7, 6)


def test_one_side_alone_keeps_the_other_native(model):
    assert empty_latent(model.vae, width=64).size == (SIDE, 64)


@pytest.mark.parametrize(
    ("size", "cells", "padding"), [((8, 8), (1, 1), (0, 0)), ((65, 3), (9, 1), (7, 5)), ((1, 1), (1, 1), (0, 0))]
)
def test_latent_knows_its_padding(size, cells, padding):
    assert Latent(torch.zeros(1, 4, *cells), size).padding == padding


# --- VAEEncode and VAEDecode


def test_encoding_is_the_scaled_mean(model, run):
    source = pictures(24, 40)
    encoded = vae_encode(model.vae, source, run=run)
    mean, _ = load_vae_network(model.vae, run).encode(source.pixels.permute(0, 3, 1, 2) * 2 - 1)
    assert encoded.samples.dtype == torch.float32
    assert encoded.size == (24, 40)
    assert torch.equal(encoded.samples, mean * VAE.scaling_factor)


def test_decoding_returns_values_in_0_to_1(model, run):
    source = latent()
    decoded = vae_decode(model.vae, source, run=run).pixels
    raw = load_vae_network(model.vae, run).decode(source.samples / VAE.scaling_factor)
    assert decoded.dtype == torch.float32
    assert torch.equal(decoded, (raw / 2 + 0.5).clamp(0, 1).permute(0, 2, 3, 1))


@pytest.mark.parametrize(("height", "width"), [(24, 40), (25, 39), (17, 8), (3, 50)])
def test_decoded_pictures_keep_their_size(model, run, height, width):
    encoded = vae_encode(model.vae, pictures(height, width), run=run)
    assert encoded.samples.shape == (1, 4, -(-height // 8), -(-width // 8))
    assert vae_decode(model.vae, encoded, run=run).pixels.shape == (1, height, width, 3)


def test_padding_repeats_the_last_row_and_column(model, run):
    source = pictures(23, 31).pixels
    padded = torch.cat([source, source[:, -1:]], dim=1)
    padded = torch.cat([padded, padded[:, :, -1:]], dim=2)
    ours, expected = (vae_encode(model.vae, Image(pixels), run=run).samples for pixels in (source, padded))
    assert torch.allclose(ours, expected, atol=1e-5)


def test_batch_is_encoded_as_single_pictures(model, run):
    source = pictures(16, 16, batch=2)
    together = vae_encode(model.vae, source, run=run).samples
    for k in range(2):
        single = vae_encode(model.vae, Image(source.pixels[k : k + 1]), run=run).samples
        assert torch.allclose(together[k], single[0], atol=1e-5)


def test_sampled_encoding_depends_on_the_seed(model, run):
    source = pictures(16, 16)
    first, again, other = (vae_encode(model.vae, source, sample=True, seed=seed, run=run).samples for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert not torch.equal(first, vae_encode(model.vae, source, run=run).samples)


def test_latent_of_another_model_is_refused(model):
    with pytest.raises(ValueError, match=r"a latent of 4 channels, .* found one of 16; use the autoencoder of the model"):
        vae_decode(model.vae, latent(channels=16))


def test_network_is_loaded_once(model, run):
    source = pictures(8, 8)
    vae_decode(model.vae, vae_encode(model.vae, source, run=run), run=run)
    assert len(run.residents) == 1


# --- Noise


def test_each_picture_of_a_batch_has_its_seed():
    together = noise(latent(batch=3), seed=7).values
    assert together.dtype == torch.float32
    for k in range(3):
        assert torch.equal(together[k], noise(latent(), seed=7 + k).values[0])


def test_noise_can_be_drawn_as_one_tensor():
    drawn = noise(latent(batch=2), seed=7, draw="sequential").values
    assert torch.equal(drawn, torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(7)))


def test_no_noise_is_zeros_and_keeps_the_seed():
    none = noise(latent(batch=2), seed=7, draw="none")
    assert torch.equal(none.values, torch.zeros(2, 4, 4, 6))
    assert none.seed == 7


def test_largest_seed_is_valid():
    assert noise(latent(batch=2), seed=2**64 - 1).values.isfinite().all()


def test_empty_latent_like_another_one(model):
    like = Latent(torch.rand(2, 4, 3, 5), (20, 36))
    found = empty_latent(model.vae, like=like)
    assert (tuple(found.samples.shape), found.size, float(found.samples.abs().max())) == ((2, 4, 3, 5), (20, 36), 0)
