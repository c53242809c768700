"""Denoisers wrap a network as the papers define it, with as few and large batches as possible."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from torch import nn

from nodegraph_diffusion.denoising.mask import MaskedDenoiser, latent_mask
from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.guidance import ClassifierFreeGuidance
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from tests.support import small_networks as small
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser

X = torch.randn(2, 4, 8, 6, generator=torch.Generator().manual_seed(0))
SIGMA = 2.5


class RecordingUNet(nn.Module):
    """Predicts its input plus the mean of its prompt, and records its calls."""

    def __init__(self, dtype=torch.float32, config=small.UNET):
        super().__init__()
        self.config = config
        self.weight = nn.Parameter(torch.zeros(1, dtype=dtype), requires_grad=False)
        self.calls, self.projected = [], []

    def project_context(self, context):
        self.projected.append(tuple(context.shape))
        return context.mean(dim=(1, 2))[:, None, None, None]

    def forward(self, x, timesteps, context, added=None, controls=None, attention=None):
        self.calls.append((tuple(x.shape), x.dtype, timesteps.tolist()))
        return x + context


def prompt(value, length=3, pictures=1):
    return torch.full((pictures, length, 5), float(value))


def test_eps_prediction_follows_its_formula():
    unet = RecordingUNet()
    denoised = UNetDenoiser(unet, SCHEDULE, prompt(2))(X, SIGMA)
    torch.testing.assert_close(denoised, X - SIGMA * (X / math.sqrt(1 + SIGMA**2) + 2))


def test_v_prediction_follows_its_formula():
    schedule = NoiseSchedule(prediction="v")
    denoised = UNetDenoiser(RecordingUNet(), schedule, prompt(2))(X, SIGMA)
    root = math.sqrt(1 + SIGMA**2)
    torch.testing.assert_close(denoised, X / root**2 - SIGMA / root * (X / root + 2))


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_perfect_network_denoises(prediction):
    clean, noise = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    signal = 1 / (1 + SIGMA**2)
    answer = noise if prediction == "eps" else signal**0.5 * noise - (1 - signal) ** 0.5 * clean

    class Oracle(RecordingUNet):
        def forward(self, x, timesteps, context, added=None, controls=None, attention=None):
            torch.testing.assert_close(x, signal**0.5 * clean + (1 - signal) ** 0.5 * noise)
            return answer

    denoised = UNetDenoiser(Oracle(), NoiseSchedule(prediction=prediction), prompt(0))(clean + SIGMA * noise, SIGMA)
    torch.testing.assert_close(denoised, clean, rtol=0, atol=1e-5)


def test_timestep_is_a_trained_one():
    unet = RecordingUNet()
    denoise = UNetDenoiser(unet, SCHEDULE, prompt(0))
    level = math.sqrt(SCHEDULE.sigma(500).item() * SCHEDULE.sigma(501).item()) * 1.0001
    for sigma in (SCHEDULE.sigma_max, level, torch.tensor(SCHEDULE.sigma_min)):
        denoise(X, sigma)
    assert [timesteps for _, _, timesteps in unet.calls] == [[999.0] * 2, [501.0] * 2, [0.0] * 2]


def test_prompt_is_projected_once():
    unet = RecordingUNet()
    denoise = UNetDenoiser(unet, SCHEDULE, prompt(1))
    for sigma in (5.0, 3.0, 1.0):
        denoise(X, sigma)
    assert unet.projected == [(2, 3, 5)]
    denoise(X[:1], 1.0)
    assert unet.projected == [(2, 3, 5), (1, 3, 5)]


def test_each_picture_can_have_its_prompt():
    unet = RecordingUNet()
    denoised = UNetDenoiser(unet, SCHEDULE, torch.cat([prompt(1), prompt(2)]))(X, SIGMA)
    for k, value in enumerate((1, 2)):
        torch.testing.assert_close(denoised[k : k + 1], UNetDenoiser(unet, SCHEDULE, prompt(value))(X[k : k + 1], SIGMA))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_network_computes_in_its_own_dtype(dtype):
    unet = RecordingUNet(dtype)
    denoised = UNetDenoiser(unet, SCHEDULE, prompt(1))(X, SIGMA)
    assert unet.calls[0][1] == dtype
    assert denoised.dtype == torch.float32
    torch.testing.assert_close(denoised, UNetDenoiser(RecordingUNet(), SCHEDULE, prompt(1))(X, SIGMA), rtol=0.05, atol=0.05)


def guidance(unet, cfg, positive, negative):
    return ClassifierFreeGuidance(UNetDenoiser(unet, SCHEDULE, positive), UNetDenoiser(unet, SCHEDULE, negative), cfg)


def test_guidance_equals_the_paper():
    unet = RecordingUNet()
    positive, negative = (UNetDenoiser(unet, SCHEDULE, prompt(value))(X, SIGMA) for value in (2, -1))
    guided = guidance(unet, 3.0, prompt(2), prompt(-1))(X, SIGMA)
    torch.testing.assert_close(guided, negative + 3.0 * (positive - negative))


def test_both_prompts_share_one_batch():
    unet = RecordingUNet()
    guidance(unet, 3.0, prompt(2), prompt(-1, pictures=2))(X, SIGMA)
    assert [shape for shape, _, _ in unet.calls] == [(4, 4, 8, 6)]


def test_no_guidance_skips_the_negative_prompt():
    unet = RecordingUNet()
    guided = guidance(unet, 1.0, prompt(2), prompt(-1))(X, SIGMA)
    assert [shape for shape, _, _ in unet.calls] == [(2, 4, 8, 6)]
    assert torch.equal(guided, UNetDenoiser(unet, SCHEDULE, prompt(2))(X, SIGMA))


@pytest.mark.parametrize(("lengths", "calls"), [((4, 4), 1), ((4, 12), 1), ((4, 6), 1), ((2, 16), 2), ((7, 11), 2)])
def test_similar_prompt_lengths_share_a_batch(lengths, calls):
    unet = RecordingUNet()
    guidance(unet, 3.0, prompt(2, lengths[0]), prompt(-1, lengths[1]))(X, SIGMA)
    assert len(unet.calls) == calls


@pytest.mark.parametrize("lengths", [(16, 16), (32, 16), (16, 24)])
def test_one_batch_equals_two_calls(lengths):
    unet = small.our_unet(dataclasses.replace(small.UNET, channel_mult=(1,), transformer_depth=(1,), num_res_blocks=1))
    positive, negative = (small.noise(1, length, small.UNET.context_dim) for length in lengths)
    x = small.noise(2, 4, 8, 8)
    guided = guidance(unet, 4.0, positive, negative)(x, SIGMA)
    apart = [UNetDenoiser(unet, SCHEDULE, context)(x, SIGMA) for context in (positive, negative)]
    torch.testing.assert_close(guided, apart[1] + 4.0 * (apart[0] - apart[1]), rtol=1e-4, atol=1e-4)


def test_guidance_accepts_any_denoiser():
    positive, negative = GaussianDenoiser(mean=1.0), GaussianDenoiser(mean=-1.0)
    guided = ClassifierFreeGuidance(positive, negative, 2.0)(X, SIGMA)
    torch.testing.assert_close(guided, negative(X, SIGMA) + 2.0 * (positive(X, SIGMA) - negative(X, SIGMA)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: ClassifierFreeGuidance(TwistedDenoiser(), TwistedDenoiser(), math.inf), "finite cfg, found inf"),
        (
            lambda: ClassifierFreeGuidance(
                TwistedDenoiser(), UNetDenoiser(RecordingUNet(), NoiseSchedule(prediction="v"), prompt(0)), 2.0
            ),
            "same noise schedule",
        ),
        (lambda: UNetDenoiser(RecordingUNet(), SCHEDULE, []), "at least one encoded prompt"),
        (lambda: UNetDenoiser(RecordingUNet(), SCHEDULE, prompt(0, pictures=3))(X, SIGMA), "2 pictures.*found 3"),
        (lambda: latent_mask(torch.ones(3, 8, 6), X), r"\(2 or 1, H, W\), found \(3, 8, 6\)"),
        (lambda: latent_mask(torch.ones(8, 6), X), r"found \(8, 6\)"),
    ],
)
def test_wrong_shapes_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_mask_blends_input_and_output():
    latent, noise = torch.randn(2, *X.shape, generator=torch.Generator().manual_seed(2))
    mask = torch.rand(1, 8, 6, generator=torch.Generator().manual_seed(3))
    denoise = TwistedDenoiser()
    seen = X * mask + (latent + SIGMA * noise) * (1 - mask)
    expected = denoise(seen, SIGMA) * mask + latent * (1 - mask)
    masked = MaskedDenoiser(denoise, latent, noise, mask)
    torch.testing.assert_close(masked(X, SIGMA), expected)
    torch.testing.assert_close(masked(X, torch.tensor(SIGMA)), expected)
    assert masked.noise_schedule == SCHEDULE


def test_mask_is_resized_bilinearly():
    mask = torch.zeros(1, 16, 12)
    mask[:, :, 5:] = 1  # the fifth and sixth column meet in the third of the latent
    resized = latent_mask(mask, X)
    assert resized.shape == X.shape
    assert resized[0, 0, 0].tolist() == [0, 0, 0.5, 1, 1, 1]
    assert torch.equal(latent_mask(mask[:, None], X), resized)


def test_each_picture_can_have_its_mask():
    masks = torch.stack([torch.zeros(8, 6), torch.ones(8, 6)])
    latent = torch.zeros_like(X)
    masked = MaskedDenoiser(TwistedDenoiser(), latent, latent, masks)(X, SIGMA)
    assert torch.equal(masked[0], latent[0])
    torch.testing.assert_close(masked[1], TwistedDenoiser()(X, SIGMA)[1])
