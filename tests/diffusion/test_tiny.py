"""The embedded model: its files, and the same pictures from diffusers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from nodegraph_diffusion.checkpoint import Checkpoint, describe, load_text_encoder, load_unet, load_vae
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.guidance import ClassifierFreeGuidance
from nodegraph_diffusion.recipes.tiny import train as tiny
from nodegraph_diffusion.recipes.tiny import vocabulary
from nodegraph_diffusion.recipes.tiny.autoencoder import psnr
from nodegraph_diffusion.recipes.tiny.evaluation import Model, encode_captions, evaluate, paint
from nodegraph_diffusion.recipes.tiny.learned_judge import SHIPPED, LearnedJudge
from nodegraph_diffusion.sampling import SAMPLERS, draw_noise, sample, sigmas_for
from nodegraph_diffusion.schedules.timesteps import schedule_normal
from nodegraph_diffusion.text.encode import encode_prompt
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from nodegraph_diffusion.tiny import FOLDER

PROMPT = "a red house left of a blue cat on the beach at night"
STEPS = 28  # 999 / 27 is a whole number: both use the same trained steps
MEGABYTE = 10**6


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    return describe(FOLDER).model()


@pytest.fixture(scope="module")
def model(checkpoint: Checkpoint) -> Model:
    return Model(
        load_unet(checkpoint.unet, "cpu", torch.float32),
        load_vae(checkpoint.vae, "cpu", torch.float32),
        load_text_encoder(checkpoint.text.parts[0], "cpu", torch.float32),
        checkpoint.noise_schedule,
    )


def test_weights_are_small_and_float16() -> None:
    files = list(FOLDER.rglob("*.safetensors"))
    assert len(files) == 3
    assert sum(file.stat().st_size for file in files) <= 20 * MEGABYTE
    for file in files:
        with safe_open(file, "pt") as tensors:
            assert {tensors.get_slice(name).get_dtype() for name in tensors.keys()} == {"F16"}  # noqa: SIM118


def test_vocabulary_is_small_and_has_every_byte() -> None:
    table = json.loads((FOLDER / "tokenizer" / "vocab.json").read_text(encoding="utf-8"))
    assert table == vocabulary.vocabulary().numbers
    assert len(table) < 2000


def test_tokenizer_equals_that_of_training() -> None:
    tokenizer = load_tokenizer(FOLDER / "tokenizer")
    numbers = vocabulary.vocabulary().tokens(PROMPT)
    assert numbers[: 2 + len(PROMPT.split())] == [tokenizer.bos, *tokenizer.encode(PROMPT), tokenizer.eos]
    assert set(numbers[2 + len(PROMPT.split()) :]) == {tokenizer.pad}
    assert not tokenizer.unknown_words(PROMPT)
    assert tokenizer.unknown_words("a red zebra") == ["zebra"]


def test_prompts_are_encoded_as_in_training(model: Model) -> None:
    encoded = encode_prompt(model.text_encoder, load_tokenizer(FOLDER / "tokenizer"), PROMPT)
    torch.testing.assert_close(encoded, encode_captions(model.text_encoder, [PROMPT]))


@pytest.mark.filterwarnings("ignore:__array__:DeprecationWarning")
def test_diffusers_paints_the_same_picture(checkpoint: Checkpoint, model: Model) -> None:
    import diffusers

    pipeline = diffusers.StableDiffusionPipeline.from_pretrained(FOLDER, local_files_only=True).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    pipeline.scheduler = diffusers.EulerDiscreteScheduler.from_config(pipeline.scheduler.config, timestep_spacing="linspace")
    pipeline.scheduler.set_timesteps(STEPS)
    sigma_max = checkpoint.noise_schedule.sigma_max
    noise = draw_noise((1, 4, checkpoint.sample_size // 4, checkpoint.sample_size // 4), seed=3)
    start = noise * math.sqrt(1 + sigma_max**2) / float(pipeline.scheduler.init_noise_sigma)
    theirs = pipeline(PROMPT, num_inference_steps=STEPS, guidance_scale=3.0, latents=start, output_type="np").images[0]

    positive, negative = (
        UNetDenoiser(model.unet, model.noise_schedule, encode_captions(model.text_encoder, [text])) for text in (PROMPT, "")
    )
    denoiser = ClassifierFreeGuidance(positive, negative, cfg=3.0)
    sigmas = sigmas_for(schedule_normal, model.noise_schedule, STEPS)
    latent = sample(denoiser, torch.zeros_like(noise), noise, SAMPLERS["euler"], sigmas=sigmas)
    ours = model.vae.decode(latent / model.vae.config.scaling_factor)[0].permute(1, 2, 0).div(2).add(0.5).clamp(0, 1)
    assert np.abs(ours.detach().numpy() - theirs).max() < 1e-3


def test_batch_pictures_equal_single_pictures(model: Model) -> None:
    both = paint(model, [PROMPT, "a green tree"], steps=4)
    single = paint(model, ["a green tree"], seed=1001, steps=4)
    assert np.abs(both[1].astype(int) - single[0]).max() <= 1


@pytest.mark.slow
def test_pictures_match_their_captions(model: Model) -> None:
    """For a few captions; the model card has the figures for hundreds."""
    scores = evaluate(model, {"learned": LearnedJudge.load(SHIPPED)}, count=12)
    assert scores["one thing, learned"].right >= 10, scores
    assert scores["two things, learned"].right >= 7, scores


def test_autoencoder_is_faithful(model: Model) -> None:
    assert psnr(model.vae, 100) > 30


@pytest.mark.slow
def test_autoencoder_reaches_its_figure(model: Model) -> None:
    assert psnr(model.vae, 500) >= 31


@pytest.mark.slow
@pytest.mark.large
def test_recipe_runs_and_skips_finished_stages(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = tiny.Recipe(
        work=tmp_path,
        pictures=100,
        autoencoder_minutes=0.05,
        denoiser_minutes=0.05,
        decoder_minutes=0.05,
        text_steps=2,
        judge_steps=2,
        judge_pictures=20,
        evaluated=2,
    )
    tiny.run(recipe)
    trained, shipped = describe(tmp_path / "tiny").model().unet, describe(FOLDER).model().unet
    assert (trained.config, trained.noise_schedule, trained.latent) == (shipped.config, shipped.noise_schedule, shipped.latent)
    assert "two things, matched filter: " in capfd.readouterr().out
    written = (tmp_path / "unet.safetensors").stat().st_mtime_ns
    tiny.run(recipe)
    assert (tmp_path / "unet.safetensors").stat().st_mtime_ns == written
