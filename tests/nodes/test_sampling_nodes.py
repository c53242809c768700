"""The UNetDenoise and Sampler nodes."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.guidance import ClassifierFreeGuidance
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.sampling import SAMPLERS, sample, sigmas_for
from nodegraph_diffusion.schedules import SCHEDULES
from nodegraph_nodes.models.parts import load_unet_network
from nodegraph_nodes.nodes.latent import noise
from nodegraph_nodes.nodes.sampling import sampler, unet_denoise
from nodegraph_nodes.nodes.text import text_encode
from nodegraph_nodes.types import Conditioning, Denoiser, Latent, Mask

STEPS = 4


@pytest.fixture(scope="module")
def prompts(model):
    return tuple(text_encode(model.text_encoder, text) for text in ("a red house", "night"))


@pytest.fixture(scope="module")
def denoiser(model, prompts):
    return unet_denoise(model.unet, *prompts, cfg=3.0)


class Toward:
    """Always predicts one latent, and records the noise levels of its calls."""

    noise_schedule = NoiseSchedule()

    def __init__(self, target):
        self.target, self.asked = target, []

    def __call__(self, x, sigma):
        self.asked.append(float(sigma))
        return self.target.expand_as(x) * 1.0


def start(batch=1, height=32, width=40):
    h, w = -(-height // 8), -(-width // 8)
    return Latent(torch.randn(batch, 4, h, w, generator=torch.Generator().manual_seed(8)), (height, width))


def half_mask(height=32, width=40):
    values = torch.zeros(1, height, width)
    values[:, :, width // 2 :] = 1
    return Mask(values)


# --- UNetDenoise


def test_denoiser_equals_the_library(model, prompts, denoiser, run):
    network, schedule = load_unet_network(model.unet, run), model.unet.part.noise_schedule
    direct = ClassifierFreeGuidance(*(UNetDenoiser(network, schedule, side.prompts[0].embedding) for side in prompts), 3.0)
    x = start().samples * 5
    assert torch.equal(denoiser.function(x, 5.0), direct(x, 5.0))


def test_cfg_1_skips_the_negative_prompt(model, prompts):
    positive, negative = prompts
    x = start().samples
    positive_only = unet_denoise(model.unet, positive, negative, cfg=1).function(x, 1.0)
    assert torch.equal(positive_only, unet_denoise(model.unet, positive, positive, cfg=1).function(x, 1.0))
    assert not torch.allclose(positive_only, unet_denoise(model.unet, positive, negative, cfg=2).function(x, 1.0))


def test_prompt_of_another_model_is_refused(model, prompts):
    other = Conditioning((Prompt(torch.zeros(1, 77, 768)),))
    with pytest.raises(ValueError, match=r"negative: expected a prompt of width 32, .* found 768; encode it with the text encoder"):
        unet_denoise(model.unet, prompts[0], other)


def test_prompts_can_differ_in_length(model, prompts):
    longer = text_encode(model.text_encoder, "a red house at night " * 4)
    assert unet_denoise(model.unet, longer, prompts[1]).function(start().samples, 1.0).isfinite().all()


# --- Sampler: the same as the library used directly


@pytest.mark.parametrize(
    ("name", "schedule", "strength"),
    [
        *((name, "karras", 1.0) for name in sorted(SAMPLERS)),
        *((name, "normal", 0.6) for name in ("ddim", "dpm_2", "dpmpp_2m_sde", "euler", "uni_pc")),  # dpm_2, uni_pc: one step fewer
    ],
)
def test_sampler_equals_the_library(denoiser, name, schedule, strength):
    latent, drawn = start(batch=2), noise(start(batch=2), seed=3)
    result = sampler(denoiser, latent, drawn, sampler=name, schedule=schedule, steps=STEPS, strength=strength)
    discarded = SAMPLERS[name].discard_penultimate
    sigmas = sigmas_for(SCHEDULES[schedule], NoiseSchedule(), STEPS, strength, discard_penultimate=discarded)
    direct = sample(denoiser.function, latent.samples, drawn.values, SAMPLERS[name], sigmas=sigmas, seed=3)
    assert result.size == latent.size
    assert torch.equal(result.samples, direct)


def test_sampler_passes_mask_options_and_step_noise(denoiser):
    latent, drawn = start(), noise(start(), seed=3)
    result = sampler(
        denoiser,
        latent,
        drawn,
        mask=half_mask(),
        sampler="euler_ancestral",
        schedule="simple",
        steps=STEPS,
        step_noise="comfyui",
        options={"eta": 0.5},
    )
    direct = sample(
        denoiser.function,
        latent.samples,
        drawn.values,
        SAMPLERS["euler_ancestral"],
        sigmas=sigmas_for(SCHEDULES["simple"], NoiseSchedule(), STEPS),
        mask=half_mask().values,
        step_noise="comfyui",
        seed=3,
        options={"eta": 0.5},
    )
    assert torch.equal(result.samples, direct)


def test_each_step_reports_progress(denoiser, run):
    sampler(denoiser, start(), noise(start(), seed=1), steps=STEPS, run=run)
    assert run.steps == [(i, STEPS) for i in range(1, STEPS + 1)]


# --- start and end of a run


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "euler_ancestral"])
def test_batch_pictures_equal_single_pictures(denoiser, name):
    batch = Latent(torch.zeros(2, 4, 4, 5), (32, 40))
    one = Latent(torch.zeros(1, 4, 4, 5), (32, 40))
    together = sampler(denoiser, batch, noise(batch, seed=7), sampler=name, steps=STEPS).samples
    for k in range(2):
        single = sampler(denoiser, one, noise(one, seed=7 + k), sampler=name, steps=STEPS).samples
        assert torch.allclose(together[k], single[0], rtol=1e-3, atol=1e-3 * single.std().item())


def test_two_samplers_complete_one_run(denoiser):
    latent = start()
    drawn, none = noise(latent, seed=4), noise(latent, seed=4, draw="none")
    whole = sampler(denoiser, latent, drawn, sampler="euler", steps=6)
    first = sampler(denoiser, latent, drawn, sampler="euler", steps=6, end_step=2)
    second = sampler(denoiser, first, none, sampler="euler", steps=6, start_step=2)
    assert torch.equal(second.samples, whole.samples)
    assert not torch.allclose(first.samples, whole.samples)


def test_end_beyond_the_last_step_is_the_last(denoiser):
    latent, drawn = start(), noise(start(), seed=4)
    whole = sampler(denoiser, latent, drawn, steps=STEPS)
    assert torch.equal(sampler(denoiser, latent, drawn, steps=STEPS, end_step=100).samples, whole.samples)


def test_less_strength_keeps_more_of_the_latent(denoiser):
    latent = start()
    seen = Toward(latent.samples + 1)
    unchanged = sampler(Denoiser(seen), latent, noise(latent, seed=4), strength=0, steps=STEPS)
    assert torch.equal(unchanged.samples, latent.samples)
    assert seen.asked == []
    highest = []
    for strength in (0.2, 0.5, 0.9, 1.0):
        seen = Toward(latent.samples)
        sampler(Denoiser(seen), latent, noise(latent, seed=4), sampler="euler", steps=STEPS, strength=strength)
        assert len(seen.asked) == STEPS
        highest.append(seen.asked[0])
    assert highest == sorted(highest)
    assert highest[-1] == pytest.approx(NoiseSchedule().sigma_max)


# --- masks


def test_black_areas_keep_the_latent():
    latent = start()
    target = torch.full((1, 4, 1, 1), 9.0)
    result = sampler(
        Denoiser(Toward(target)), latent, noise(latent, seed=4), mask=half_mask(), sampler="euler", steps=STEPS
    ).samples
    assert torch.allclose(result[..., :2], latent.samples[..., :2], atol=1e-5)
    assert torch.allclose(result[..., 3:], target.expand_as(result[..., 3:]), atol=1e-5)


def test_mask_of_another_size_is_resized_with_a_notice(run):
    latent = start()
    result = sampler(
        Denoiser(Toward(torch.zeros(1, 4, 1, 1))), latent, noise(latent, seed=4), mask=half_mask(64, 80), steps=STEPS, run=run
    )
    assert torch.allclose(result.samples[..., :2], latent.samples[..., :2], atol=1e-5)
    assert run.notices == ["the mask is 80x64 and the picture 40x32: the mask is resized"]


def test_mask_is_aligned_with_a_padded_latent():
    latent = start(height=32, width=33)  # five cells, the last of them for one column of pixels
    mask = torch.zeros(1, 32, 33)
    mask[:, :, 24:] = 1
    result = sampler(Denoiser(Toward(torch.zeros(1, 4, 1, 1))), latent, noise(latent, seed=4), mask=Mask(mask), steps=STEPS).samples
    assert torch.allclose(result[..., :3], latent.samples[..., :3], atol=1e-5)
    assert torch.allclose(result[..., 3:], torch.zeros(1, 4, 4, 2), atol=1e-5)


def test_each_picture_can_have_its_mask():
    latent = start(batch=2)
    masks = Mask(torch.stack([torch.zeros(32, 40), torch.ones(32, 40)]))
    result = sampler(Denoiser(Toward(torch.zeros(1, 4, 1, 1))), latent, noise(latent, seed=4), mask=masks, steps=STEPS).samples
    assert torch.allclose(result[0], latent.samples[0], atol=1e-5)
    assert torch.allclose(result[1], torch.zeros_like(result[1]), atol=1e-5)


# --- refused inputs


def test_noise_for_another_latent_is_refused(denoiser):
    with pytest.raises(ValueError, match=r"latent and noise of one shape .* draw the noise for this latent"):
        sampler(denoiser, start(), noise(start(batch=2), seed=1))


def test_three_masks_for_two_pictures_are_refused(denoiser):
    with pytest.raises(ValueError, match="give one mask, or one for each picture"):
        sampler(denoiser, start(batch=2), noise(start(batch=2), seed=1), mask=Mask(torch.ones(3, 32, 40)))


@pytest.mark.parametrize(
    ("returned", "found"), [(lambda x: None, "found NoneType"), (lambda x: F.pad(x, (0, 1)), r"found shape \[1, 4, 4, 6\]")]
)
def test_sampler_must_return_a_latent(denoiser, returned, found):
    def strange(denoise, x, sigmas, *, noise, on_step):
        return returned(x)

    with pytest.raises(ValueError, match=f"a latent of shape .* from the sampler, {found}. Correct the sampler"):
        sampler(denoiser, start(), noise(start(), seed=1), sampler=strange, steps=STEPS)


@pytest.mark.parametrize(
    ("literals", "message"),
    [
        ({"steps": 20, "start_step": 5, "end_step": None, "strength": 0.5}, "both set where sampling starts; leave one out"),
        ({"steps": 20, "start_step": 15, "end_step": 10, "strength": 1.0}, "start_step 15 is after the last step, 10"),
        ({"steps": 10, "start_step": 15, "end_step": 20, "strength": 1.0}, "start_step 15 is after the last step, 10"),
        ({"steps": 20, "start_step": 5, "end_step": 10, "strength": 1.0, "sampler": SAMPLERS["euler"], "options": None}, None),
    ],
)
def test_check_reports_bad_sampler_inputs(plugins, literals, message):
    messages = list(plugins.nodes.get("Sampler").value.check(sigmas=None, **literals))
    assert len(messages) == (0 if message is None else 1)
    assert message is None or message in messages[0]
