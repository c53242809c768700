"""Noise levels as workflow values: made, listed, split, flipped and sampled along."""

from __future__ import annotations

import pytest
import torch

from nodegraph_diffusion.sampling import sigmas_for
from nodegraph_diffusion.schedules import SCHEDULES
from nodegraph_diffusion.testing import GaussianDenoiser
from nodegraph_nodes.nodes.latent import noise
from nodegraph_nodes.nodes.sampling import sampler
from nodegraph_nodes.nodes.sigmas import flip_sigmas, schedule, sigmas, split_sigmas
from nodegraph_nodes.types import Denoiser, Latent

LATENT = Latent(torch.zeros(2, 4, 4, 5), (32, 40))
NOISE = noise(LATENT, seed=3)


def gaussian() -> Denoiser:
    return Denoiser(GaussianDenoiser())


def test_schedule_node_equals_the_samplers_levels(model):
    levels = schedule(model.unet, schedule="karras", steps=6, strength=0.5)
    assert torch.equal(levels.values, sigmas_for(SCHEDULES["karras"], model.unet.part.noise_schedule, 6, 0.5))
    options = schedule(model.unet, schedule="karras", steps=6, schedule_options={"rho": 3.0})
    assert not torch.equal(options.values, schedule(model.unet, schedule="karras", steps=6).values)


def test_sampler_uses_the_given_levels(model):
    levels = schedule(model.unet, schedule="normal", steps=6)
    result = sampler(gaussian(), LATENT, NOISE, sigmas=levels, sampler="heun")
    assert torch.equal(result.samples, sampler(gaussian(), LATENT, NOISE, sampler="heun", schedule="normal", steps=6).samples)


def test_two_parts_equal_the_whole():
    levels = sigmas([14.6, 6.0, 2.0, 0.7, 0.2, 0.0])
    whole = sampler(gaussian(), LATENT, NOISE, sigmas=levels, sampler="euler")
    high, low = split_sigmas(levels, 2)
    assert high.values.tolist() == pytest.approx([14.6, 6.0, 2.0])
    first = sampler(gaussian(), LATENT, NOISE, sigmas=high, sampler="euler")
    second = sampler(gaussian(), first, noise(LATENT, seed=3, draw="none"), sigmas=low, sampler="euler")
    assert torch.equal(second.samples, whole.samples)


def test_flipped_levels_lead_back_to_the_noise():
    levels = sigmas([14.0 * 0.93**i for i in range(120)] + [0.0])
    picture = sampler(gaussian(), LATENT, NOISE, sigmas=levels, sampler="heun")
    unsampled = sampler(gaussian(), picture, noise(LATENT, seed=3, draw="none"), sigmas=flip_sigmas(levels), sampler="heun")
    again = sampler(gaussian(), unsampled, noise(LATENT, seed=3, draw="none"), sigmas=levels, sampler="heun")
    assert unsampled.samples.std() == pytest.approx(14.0, rel=0.1)
    torch.testing.assert_close(again.samples, picture.samples, rtol=0, atol=0.02)


def test_stochastic_samplers_refuse_rising_levels():
    levels = flip_sigmas(sigmas([14.0, 3.0, 1.0, 0.0]))
    with pytest.raises(ValueError, match=r"draws no noise for levels that go up from 0.0001 to 14, found sample_euler_ancestral"):
        sampler(gaussian(), LATENT, NOISE, sigmas=levels, sampler="euler_ancestral")


WORKFLOW = """
nodegraph: 1
nodes:
  model: {use: LoadModel, model: "builtin:tiny"}
  text: {use: TextEncode, text_encoder: $model.text_encoder, text: a red house}
  latent: {use: EmptyLatent, vae: $model.vae}
  noise: {use: Noise, like: $latent, seed: 1}
  denoiser: {use: UNetDenoise, unet: $model.unet, positive: $text, negative: $text}
  levels: {use: Sigmas, levels: LEVELS}
  sampled: {use: Sampler, denoiser: $denoiser, latent: $latent, noise: $noise, sigmas: $levels MORE}
outputs:
  sampled: {from: $sampled}
"""


@pytest.mark.parametrize(
    ("levels", "more", "message"),
    [
        ("[14.6, 1.0, 0.0]", "", None),
        ("[]", "", "at least two noise levels"),
        ("[1.0, 14.6, 0.0]", "", "each level below the one before it, found level 1, 14.6, after 1.0"),
        ("[14.6, .inf]", "", "a finite number as level 1"),
        ("[14.6, 1.0, 0.0]", ", strength: 0.5", "sigmas already sets where sampling starts and ends; leave out strength"),
        ("[14.6, 1.0, 0.0]", ", sampler: eulr", "there is no sampler 'eulr'. Did you mean 'euler'"),
        ("[14.6, 1.0, 0.0]", ", steps: 0", "expected a value from 1 to 10000, found 0"),
    ],
)
def test_bad_levels_fail_before_loading_weights(tmp_path, monkeypatch, levels, more, message):
    from click.testing import CliRunner

    from nodegraph.cli import main

    (tmp_path / "w.yaml").write_text(WORKFLOW.replace("LEVELS", levels).replace(" MORE", more))
    result = CliRunner().invoke(main, ["check", str(tmp_path / "w.yaml")])
    assert result.exit_code == (0 if message is None else 2), result.output
    assert message is None or message in " ".join(result.output.split())
