"""A model's noise schedule has the published values, and its two directions are inverse."""

from __future__ import annotations

import subprocess
import sys

import diffusers
import pytest
import torch

from nodegraph_diffusion.noise_schedule import NoiseSchedule

SD1 = NoiseSchedule()
# diffusers hands tensors to numpy in a way that numpy is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PUBLISHED = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def test_import_does_not_load_torch():
    code = "import sys; import nodegraph_diffusion.noise_schedule; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_signal_levels_equal_diffusers():
    reference = diffusers.DDPMScheduler(**PUBLISHED).alphas_cumprod
    torch.testing.assert_close(SD1.alphas_cumprod().float(), reference, rtol=1e-5, atol=0)


def test_sigmas_are_the_published_ones():
    sigmas = SD1.sigmas()
    assert sigmas.shape == (1000,)
    assert sigmas.dtype == torch.float32
    assert (sigmas.diff() > 0).all()
    assert sigmas[0].item() == pytest.approx(0.029167, rel=2e-5)
    assert sigmas[-1].item() == pytest.approx(14.614642, rel=2e-5)
    assert (SD1.sigma_min, SD1.sigma_max) == (sigmas[0].item(), sigmas[-1].item())


def test_sigmas_are_a_copy():
    SD1.sigmas().zero_()
    assert SD1.sigmas()[0] > 0


def test_timestep_and_sigma_are_inverse():
    steps = torch.linspace(0, 999, 4321)
    torch.testing.assert_close(SD1.timestep(SD1.sigma(steps)), steps, rtol=0, atol=1e-2)
    whole = torch.arange(1000)
    assert torch.equal(SD1.timestep(SD1.sigmas()).round(), whole.float())
    torch.testing.assert_close(SD1.sigma(whole), SD1.sigmas())


@pytest.mark.parametrize(("sigma", "timestep"), [(1e-6, 0.0), (0.0, 0.0), (1e6, 999.0)])
def test_timestep_of_outside_levels_is_the_nearest(sigma, timestep):
    assert SD1.timestep(sigma).item() == timestep


def test_shapes_follow_the_argument():
    assert SD1.timestep(2.0).shape == ()
    assert SD1.timestep(torch.ones(2, 3)).shape == (2, 3)
    assert SD1.sigma(torch.ones(2, 3)).shape == (2, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: NoiseSchedule(beta_start=0.02), "0 < beta_start < beta_end < 1, found 0.02"),
        (lambda: NoiseSchedule(steps=1), "2 to 1,000,000 steps, found 1"),
        (lambda: NoiseSchedule(prediction="x0"), "'eps' or 'v', found 'x0'"),
    ],
)
def test_values_out_of_range_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_zero_snr_equals_diffusers_except_the_last_step():
    import diffusers

    reference = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", rescale_betas_zero_snr=True
    ).alphas_cumprod
    ours = NoiseSchedule(prediction="v", zero_snr=True)
    torch.testing.assert_close(ours.alphas_cumprod()[:-1].float(), reference[:-1], rtol=1e-4, atol=1e-6)
    assert reference[-1] < 1e-6
    assert ours.sigma_max == pytest.approx(4518.76, rel=1e-4)  # ComfyUI's
    assert ours.sigma_min == pytest.approx(NoiseSchedule().sigma_min, rel=1e-6)


@pytest.mark.parametrize(
    ("schedule", "halfway", "nearest"),
    [
        (SD1, [499.5, 166.5, 832.5, 943.5, 721.5, 388.5], [500, 166, 833, 943, 721, 389]),
        (NoiseSchedule(prediction="v", zero_snr=True), [499.5, 166.5, 943.5], [499, 167, 943]),
    ],
    ids=["eps", "zero-snr"],
)
def test_nearest_step_of_a_tie_equals_comfyui(schedule, halfway, nearest):
    """Recorded from float32 arithmetic: the schedules normal and sgm_uniform visit these with 5, 6, 7, 13 or 19 steps."""
    assert [schedule.nearest_step(float(schedule.sigma(step))) for step in halfway] == nearest


def test_nearest_step_otherwise_is_the_rounded_timestep():
    levels = (torch.rand(500, generator=torch.Generator().manual_seed(0)) * 12 - 5).exp().tolist()
    assert [SD1.nearest_step(level) for level in levels] == [int(SD1.timestep(level).round()) for level in levels]
    assert [SD1.nearest_step(float(level)) for level in SD1.sigmas()] == list(range(1000))
    assert (SD1.nearest_step(0.0), SD1.nearest_step(1e6)) == (0, 999)
