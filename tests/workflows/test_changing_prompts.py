"""Prompts that change during a run, and several prompts at once (A1111's syntax), against runs of the embedded model in parts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from nodegraph import Run
from nodegraph_nodes.models.find import find_model
from nodegraph_nodes.nodes.latent import empty_latent, noise
from nodegraph_nodes.nodes.models import load_model
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from tests.support.recording_run import RecordingRun

RED, BLUE = "a red house", "a blue tree at night"
STEPS = 4


@pytest.fixture(scope="module")
def run() -> Run:
    return RecordingRun()


@pytest.fixture(scope="module")
def model():
    return load_model(find_model("builtin:tiny", Path()).value)


@pytest.fixture(scope="module")
def start(model):
    """An empty latent, and noise for it."""
    latent = empty_latent(model.vae, width=64, height=64)
    return latent, noise(latent, seed=3)


@pytest.fixture(scope="module")
def denoiser(model, run):
    """The model under a prompt."""

    def denoiser(text, cfg=4.0, negative=""):
        encoded = [text_encode(model.text_encoder, part, syntax="a1111", run=run) for part in (text, negative)]
        return unet_denoise(model.unet, *encoded, cfg=cfg, run=run)

    return denoiser


@pytest.fixture(scope="module")
def sampled(denoiser, start, run):
    """The latent after all steps, or after some of them, from `latent` or from noise."""

    def sampled(text, *, latent=None, **options):
        if latent is None:
            options["latent"], options["noise"] = start
        else:
            options["latent"], options["noise"] = latent, noise(latent, seed=3, draw="none")
        return sampler(denoiser(text), steps=STEPS, run=run, **options)

    return sampled


@pytest.fixture(scope="module")
def in_parts(sampled):
    """The latent of a run whose steps each have their own prompt."""

    def in_parts(texts, **options):
        latent = None
        for step, text in enumerate(texts):
            latent = sampled(text, latent=latent, start_step=step, end_step=step + 1, **options)
        return latent.samples

    return in_parts


@pytest.mark.slow
@pytest.mark.parametrize("method", ["euler", "heun", "dpm_2"])
@pytest.mark.parametrize("prompt", ["[a red house:a blue tree at night:0.5]", "a [red house:blue tree at night:2]"])
def test_an_edited_prompt_is_one_prompt_then_the_other(sampled, method, prompt):
    first = sampled(RED, sampler=method, end_step=2)
    expected = sampled(BLUE, sampler=method, latent=first, start_step=2)
    assert torch.equal(sampled(prompt, sampler=method).samples, expected.samples)


def test_a_run_in_parts_switches_at_the_same_step(sampled):
    prompt = "[a red house:a blue tree at night:0.5]"
    latent = None
    for first, last in ((0, 1), (1, 3), (3, None)):
        latent = sampled(prompt, latent=latent, sampler="euler", start_step=first, end_step=last)
    assert torch.equal(latent.samples, sampled(prompt, sampler="euler").samples)


def test_alternatives_take_turns(sampled, in_parts):
    expected = in_parts([RED, BLUE] * 2, sampler="euler")
    assert torch.equal(sampled("[a red house|a blue tree at night]", sampler="euler").samples, expected)


def test_additions_and_removals(sampled, in_parts):
    added = in_parts(["a house"] * 2 + ["a house at night"] * 2, sampler="euler")
    assert torch.equal(sampled("a house[ at night:2]", sampler="euler").samples, added)
    removed = in_parts(["a house at night"] * 2 + ["a house"] * 2, sampler="euler")
    assert torch.equal(sampled("a house[ at night::2]", sampler="euler").samples, removed)


@pytest.mark.slow
def test_a_sampler_with_its_own_steps_switches_by_noise_level(sampled):
    edited, red, blue = (
        sampled(prompt, sampler="dpm_adaptive").samples for prompt in ("[a red house:a blue tree at night:0.5]", RED, BLUE)
    )
    assert not torch.equal(edited, red)
    assert not torch.equal(edited, blue)


@pytest.mark.parametrize(("cfg", "weight"), [(4.0, 0.5), (1.0, 1.0), (3.0, -1.0)])
def test_and_adds_what_each_prompt_adds(denoiser, start, cfg, weight):
    x = start[1].values * 3
    red, blue, empty = (denoiser(text, cfg=1.0).function(x, 3.0) for text in (RED, BLUE, ""))
    expected = empty + cfg * ((red - empty) + weight * (blue - empty))
    composed = denoiser(f"{RED} AND {BLUE} :{weight}", cfg=cfg).function
    torch.testing.assert_close(composed(x, 3.0), expected, atol=1e-4, rtol=1e-4)
    predictions = composed.predict(x, 3.0)
    torch.testing.assert_close(predictions.negative, empty, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(predictions.positive, empty + (red - empty) + weight * (blue - empty), atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(composed.predict_one("positive", x, 3.0), predictions.positive, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(composed.predict_one("negative", x, 3.0), empty, atol=1e-5, rtol=1e-5)


def test_a_prompt_of_several_can_change(denoiser, sampled):
    edited = sampled(f"[a red house:a blue tree at night:0] AND {RED}", sampler="euler").samples
    torch.testing.assert_close(edited, sampled(f"{BLUE} AND {RED}", sampler="euler").samples)


def test_a_negative_prompt_cannot_be_several(denoiser):
    with pytest.raises(ValueError, match="negative: expected one prompt, found several with AND"):
        denoiser(RED, negative="a cat AND a dog")
