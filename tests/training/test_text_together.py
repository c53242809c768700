"""A denoiser and its text encoder are trained together by a node, and used like others."""

from __future__ import annotations

import pytest
import torch

from nodegraph_diffusion.checkpoint import load_text_encoder
from nodegraph_nodes.nodes.latent import empty_latent, noise
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_training.nodes.data import picture_world
from nodegraph_training.nodes.denoisers import DenoiserAndText, train_denoiser, train_denoiser_and_text
from nodegraph_training.nodes.evaluate import evaluate, export_model
from tests.support.recording_run import RecordingRun
from tests.support.small_training import SMALL

SIZES = {"channels": 16, "levels": [1], "depth": [1], "batch": 2, "width": 16, "layers": 1}


@pytest.fixture(scope="module")
def together(vae) -> DenoiserAndText:
    return train_denoiser_and_text(picture_world(**SMALL), vae, steps=1, **SIZES)


@pytest.mark.slow
def test_text_encoder_is_trained_with_the_denoiser(together, vae):
    longer = train_denoiser_and_text(picture_world(**SMALL), vae, steps=3, **SIZES)
    first, second = together.text_encoder.tensors, longer.text_encoder.tensors
    assert [name for name in first if torch.equal(first[name], second[name])] == []
    assert longer.text_encoder.settings["config"]["causal"] is False
    causal = train_denoiser_and_text(picture_world(**SMALL), vae, steps=1, causal=True, **SIZES)
    assert causal.text_encoder.settings["config"]["causal"] is True


def test_each_word_sees_the_words_after_it(together):
    network = load_text_encoder(together.text_encoder.opened[0].part, "cpu", torch.float32)
    tokens = torch.arange(8)[None]
    changed = tokens.clone()
    changed[0, -1] += 1
    assert (network(tokens) != network(changed)).any(-1).all()


@pytest.mark.slow
def test_both_are_used_trained_further_and_measured(together, vae, tmp_path, monkeypatch):
    run, data = RecordingRun(), picture_world(**SMALL)
    unet = train_denoiser(data, vae, together.text_encoder, unet=together.unet, steps=1, batch=2, run=run)
    assert unet.settings == together.unet.settings
    latent = empty_latent(vae, 16, 16)
    nothing, prompts = text_encode(together.text_encoder, ""), ["a red cat", "two trees"]
    painted = [
        sampler(unet_denoise(unet, text_encode(together.text_encoder, prompt), nothing), latent, noise(latent, 0), steps=2).samples
        for prompt in prompts
    ]
    assert not torch.equal(*painted)
    figures, pictures, _ = evaluate(together.unet, data, vae, together.text_encoder, count=2, steps=1)
    assert figures["captions"] == len(pictures.pixels) == 2
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="text_encoder: expected a causal one"):
        export_model(together.unet, vae, together.text_encoder, "model")
    assert not (tmp_path / "model").exists()
