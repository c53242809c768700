"""The linear map from latents to colours is close to what the autoencoder decodes, for the shipped model."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from nodegraph_diffusion.checkpoint import describe, load_vae
from nodegraph_diffusion.denoising.preview import MAPS, LinearMap, enlarged, fitted, latent_space, linear_map, tiled
from nodegraph_diffusion.networks.config import LatentSpace
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.recipes.pixels import to_tensor
from nodegraph_diffusion.recipes.tiny.data import pictures
from nodegraph_diffusion.tiny import FOLDER

SD, SDXL = LatentSpace(), LatentSpace(scaling_factor=0.13025)


@pytest.fixture(scope="module")
def vae() -> AutoencoderKL:
    return load_vae(describe(FOLDER).model().vae, "cpu", torch.float32)


@torch.no_grad()
def encoded(vae: AutoencoderKL, pixels: Tensor) -> Tensor:
    return torch.cat([vae.encode(part)[0] for part in pixels.split(50)])


def small(pixels: Tensor) -> Tensor:
    """Networks' pixels as pictures (B, h, w, 3) of the latent's size."""
    return F.avg_pool2d(pixels / 2 + 0.5, 4).movedim(1, -1)


@pytest.mark.parametrize("split", ["valid", "held-out"])
def test_preview_is_close_to_the_small_picture(vae, split):
    pixels = to_tensor(pictures(split, 50))
    preview, picture = linear_map(vae.config.latent, 4)(encoded(vae, pixels)), small(pixels)
    assert preview.shape == picture.shape == (50, 16, 16, 3)
    assert (preview - picture).square().mean().sqrt() < 0.1
    for colour in range(3):
        assert torch.corrcoef(torch.stack([preview[..., colour].flatten(), picture[..., colour].flatten()]))[0, 1] > 0.9


@pytest.mark.slow
def test_shipped_factors_are_fitted_as_documented(vae):
    latent = encoded(vae, to_tensor(pictures("train", 400)))
    with torch.no_grad():
        decoded = torch.cat([vae.decode(part) for part in latent.split(50)])
    again = fitted(latent, (decoded / 2 + 0.5).movedim(1, -1))
    for ours, theirs in zip((*again.weights, again.bias), (*MAPS["tiny"].weights, MAPS["tiny"].bias), strict=True):
        assert ours == pytest.approx(theirs, abs=2e-3)


@settings(deadline=None)
@given(seed=st.integers(0, 1000), channels=st.integers(1, 16), factor=st.sampled_from([1, 2, 8]))
def test_fit_recovers_a_linear_map(seed, channels, factor):
    random = torch.Generator().manual_seed(seed)
    weights, bias = torch.randn(channels, 3, generator=random), torch.randn(3, generator=random)
    latent = torch.randn(3, channels, 6, 5, generator=random)
    pixels = (latent.movedim(1, -1) @ weights + bias).repeat_interleave(factor, 1).repeat_interleave(factor, 2)
    found = fitted(latent, pixels)
    assert torch.allclose(torch.tensor(found.weights), weights, atol=1e-4)
    assert torch.allclose(torch.tensor(found.bias), bias, atol=1e-4)


def test_map_is_chosen_by_autoencoder():
    tiny = describe(FOLDER).model().unet.latent
    assert [latent_space(config) for config in (SD, SDXL, tiny)] == ["sd", "sdxl", "tiny"]
    assert [linear_map(config, 4) for config in (SD, SDXL, tiny)] == [MAPS["sd"], MAPS["sdxl"], MAPS["tiny"]]
    assert latent_space(LatentSpace(channels=16)) is None
    assert linear_map(SD, 16) == linear_map(None, 16)  # a latent of another autoencoder than the model's


def test_published_factors_are_used():
    """keturn's for pixels in [-1, 1], Vass's for pixels up to 255."""
    one = torch.eye(4)[..., None, None]  # each picture a cell with one channel at 1
    channels = MAPS["sd"](torch.cat([one, -one]))[:, 0, 0]
    expected = torch.tensor([[0.298, 0.207, 0.208], [0.187, 0.286, 0.173], [-0.158, 0.189, 0.264], [-0.184, -0.271, -0.473]])
    assert torch.allclose(channels * 2 - 1, torch.cat([expected, -expected]), atol=1e-6)
    zero, first = MAPS["sdxl"](torch.stack([torch.zeros(4, 1, 1), one[0]]))[:, 0, 0]
    assert torch.allclose(zero * 255, torch.tensor([150.0, 140.0, 130.0]))
    assert torch.allclose(first * 255, torch.tensor([210.0, 200.0, 190.0]))


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 16])
def test_unknown_latent_shows_its_first_channels(channels):
    latent = torch.randn(2, channels, 4, 5, generator=torch.Generator().manual_seed(1))
    pixels = linear_map(None, channels)(latent)
    assert pixels.shape == (2, 4, 5, 3)
    for colour in range(3):
        expected = latent[:, colour] / 6 + 0.5 if colour < channels else torch.full((2, 4, 5), 0.5)
        assert torch.allclose(pixels[..., colour], expected.clamp(0, 1))


def test_pixels_are_within_bounds_for_any_latent():
    latent = torch.tensor([1e9, -1e9, float("nan"), float("inf")]).expand(4, 4)[None, ..., None].bfloat16()
    pixels = MAPS["sd"](latent)
    assert pixels.dtype == torch.float32
    assert ((pixels >= 0) & (pixels <= 1)).all()


@pytest.mark.parametrize(("batch", "rows", "columns"), [(1, 1, 1), (2, 1, 2), (3, 2, 2), (5, 2, 3), (9, 3, 3)])
def test_batch_is_one_picture(batch, rows, columns):
    pixels = torch.rand(batch, 4, 6, 3)
    whole = tiled(pixels)
    assert whole.shape == (1, rows * 4, columns * 6, 3)
    for cell in range(rows * columns):
        top, left = 4 * (cell // columns), 6 * (cell % columns)
        part = whole[0, top : top + 4, left : left + 6]
        assert torch.equal(part, pixels[cell] if cell < batch else torch.zeros(4, 6, 3))


def test_enlarging_keeps_flat_areas():
    assert torch.allclose(enlarged(torch.full((2, 3, 5, 3), 0.3), 4), torch.full((2, 12, 20, 3), 0.3))


def test_map_weighs_each_channel_by_its_row():
    double = LinearMap(((0.5, 0.0, 0.0), (0.0, 0.25, 0.0)), (0.0, 0.0, 1.0))
    assert double(torch.tensor([[[[1.0]], [[2.0]]]])).tolist() == [[[[0.5, 0.5, 1.0]]]]
