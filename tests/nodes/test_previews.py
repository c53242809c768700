"""Previews of the sampler, with linear colours or a TAESD decoder."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from nodegraph.plugin_api import SettingsError
from nodegraph_diffusion.checkpoint import describe
from nodegraph_diffusion.denoising.preview import MAPS, tiled
from nodegraph_diffusion.networks.config import LatentSpace, TAESDConfig
from nodegraph_diffusion.networks.taesd import TAESD
from nodegraph_diffusion.tiny import FOLDER
from nodegraph_nodes.models.previews import LONGEST, LatentPreview, load_preview_decoder
from nodegraph_nodes.nodes.latent import empty_latent, noise
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from tests.support import synthetic_checkpoints as synthetic
from tests.support.recording_run import RecordingRun

SD, SDXL, TINY = LatentSpace(), LatentSpace(scaling_factor=0.13025), describe(FOLDER).model().unet.latent


def latent(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(3))


@pytest.fixture(scope="module")
def taesd() -> TAESD:
    network = TAESD(TAESDConfig()).eval().requires_grad_(False)
    synthetic.fill(network)
    return network


@pytest.fixture
def write(taesd, tmp_path):
    """A file of the decoder, by name."""

    def written(name: str) -> Path:
        save_file(taesd.state_dict(), tmp_path / name)
        return tmp_path / name

    return written


def test_sampler_previews_each_step(model):
    class Looking(RecordingRun):
        def step(self, i, n, preview=None):
            super().step(i, n)
            self.shown.append((preview.latent, preview.size, preview.samples.clone(), preview()))

    run = Looking()
    run.shown = []
    start = empty_latent(model.vae, 32, 24, batch=2)
    prompt = text_encode(model.text_encoder, "a cat", run=run)
    denoiser = unet_denoise(model.unet, prompt, prompt, cfg=2.0, run=run)
    drawn = noise(start, 5)
    sampled = sampler(denoiser, start, drawn, sampler="euler", schedule="normal", steps=3, run=run)
    assert run.steps == [(1, 3), (2, 3), (3, 3)]
    for space, size, samples, image in run.shown:
        assert space == model.vae.part.config.latent
        assert size == (24, 32)
        assert samples.shape == (2, 4, 3, 4)
        assert image.pixels.shape == (1, 24, 64, 3)
    # the last step of Euler's method ends where the denoiser points
    assert torch.allclose(run.shown[-1][2], sampled.samples, atol=1e-5)
    unseen = sampler(denoiser, start, drawn, sampler="euler", schedule="normal", steps=3, run=RecordingRun())
    assert torch.equal(unseen.samples, sampled.samples)  # previews change nothing


@pytest.mark.parametrize(
    ("batch", "cells", "size", "expected"),
    [
        (1, (64, 64), (512, 512), (256, 256)),
        (1, (96, 64), (768, 512), (192, 128)),
        (2, (32, 32), (256, 256), (128, 256)),
        (4, (64, 64), (512, 512), (256, 256)),
        (3, (4, 6), (32, 48), (64, 96)),
        (1, (3, 3), (20, 20), (18, 18)),
        (1, (600, 2), (4800, 16), (600, 2)),
    ],
)
def test_previews_are_enlarged_within_a_limit(batch, cells, size, expected):
    pixels = LatentPreview(latent(batch, 4, *cells), SD, size)().pixels
    assert pixels.shape == (1, *expected, 3)
    assert max(expected) <= max(LONGEST, *cells)


def test_colours_follow_the_latent_space():
    flat = latent(1, 4, 1, 1).expand(1, 4, 8, 8)
    for config, space in ((SD, "sd"), (SDXL, "sdxl"), (TINY, "tiny")):
        pixels = LatentPreview(flat, config, (64, 64))().pixels
        assert torch.allclose(pixels, MAPS[space](flat)[:, :1, :1].expand_as(pixels), atol=1e-6)
    assert LatentPreview(flat, None, (64, 64))().pixels.shape == (1, 64, 64, 3)  # of a third-party denoiser


def test_decoder_decodes_and_crops_each_picture(write, taesd):
    preview = LatentPreview(latent(3, 4, 4, 6), SD, (30, 45))
    image = load_preview_decoder(write("taesd_decoder.safetensors"))(preview)
    with torch.no_grad():
        decoded = (taesd(preview.samples) / 2 + 0.5).clamp(0, 1)[:, :, :30, :45]
    assert torch.allclose(image.pixels, tiled(decoded.movedim(1, -1)), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "preview", "message"),
    [
        (
            "taesdxl_decoder.safetensors",
            LatentPreview(latent(1, 4, 2, 2), SD, (16, 16)),
            "of Stable Diffusion XL, and these are of",
        ),
        ("taesd_decoder.safetensors", LatentPreview(latent(1, 4, 2, 2), SDXL, (16, 16)), "these are of Stable Diffusion XL"),
        ("decoder.safetensors", LatentPreview(latent(1, 4, 2, 2), TINY, (8, 8)), "these are of builtin:tiny"),
        ("decoder.safetensors", LatentPreview(latent(1, 4, 2, 2), None, (8, 8)), "these are of another autoencoder"),
        ("decoder.safetensors", LatentPreview(latent(1, 16, 2, 2), None, (8, 8)), "of 4 channels, and these have 16"),
        ("decoder.safetensors", lambda: 1, "the node offers something else"),
    ],
)
def test_decoder_of_another_family_is_an_error(write, name, preview, message):
    decoder = load_preview_decoder(write(name))
    with pytest.raises(ValueError, match=message):
        decoder(preview)


@pytest.mark.parametrize(("name", "config"), [("taesdxl_decoder", SDXL), ("my_decoder", SDXL), ("my_decoder", SD)])
def test_decoder_of_same_or_unknown_family_is_used(write, name, config):
    decoder = load_preview_decoder(write(f"{name}.safetensors"))
    assert decoder(LatentPreview(latent(1, 4, 2, 2).half(), config, (16, 16))).pixels.shape == (1, 16, 16, 3)


def test_unusable_decoder_fails_before_the_run(tmp_path, plugins, monkeypatch):
    monkeypatch.delenv("NODEGRAPH_PREVIEW_DECODER", raising=False)
    assert plugins.backend.preview_renderer() is None
    monkeypatch.setenv("NODEGRAPH_PREVIEW_DECODER", str(tmp_path / "gone.safetensors"))
    with pytest.raises(SettingsError, match=r"the preview decoder cannot be used: .*found nothing"):
        plugins.backend.preview_renderer()
