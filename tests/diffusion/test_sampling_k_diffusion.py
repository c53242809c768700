"""The samplers that k-diffusion has take the same steps here.

Three conventions differ. k-diffusion extrapolates the last step of `lms` to noise level 0; ours ends at the estimate, as in
ComfyUI. With churn it draws noise in every step; ours only in steps that add some. If only one level is above 0, its `dpm_fast`
and `dpm_adaptive` do nothing; ours denoise.
"""

from __future__ import annotations

import math

import pytest
import torch

from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedules.continuous import schedule_karras
from tests.support.k_diffusion import SAMPLING, KModel
from tests.support.steps import START, assert_same_steps, every_schedule, our_steps
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser, generator_noise, ignore_step, no_noise

CHURNED = {"s_churn": 5.0, "s_tmin": 0.5, "s_tmax": 8.0, "s_noise": 1.01}


def k_steps(sample, sigmas, *arguments, **options):
    """x after each step of a sampler of k-diffusion, which reports x before each step."""
    reports = []
    x = START * sigmas[0]
    arguments = arguments or (sigmas.double(),)
    result = sample(
        KModel(TwistedDenoiser()), x, *arguments, callback=lambda report: reports.append(report["x"]), disable=True, **options
    )
    return [*reports[1:], result]


def last_positive(sigmas):
    return sigmas[sigmas > 0][-1].item()


@every_schedule
@pytest.mark.parametrize("name", ["euler", "heun", "dpm_2"])
@pytest.mark.parametrize("options", [{}, {"s_churn": 8.0}, CHURNED], ids=["plain", "churned", "churned-between"])
def test_steps_with_churn_are_k_diffusions(name, sigmas, options, monkeypatch):
    fixed = generator_noise(START)(0, 0)  # the same for every draw, as k-diffusion draws more often
    monkeypatch.setattr(SAMPLING.torch, "randn_like", lambda x: fixed)
    reference = k_steps(getattr(SAMPLING, f"sample_{name}"), sigmas, **options)
    noise = (lambda sigma_from, sigma_to: fixed) if options else no_noise
    ours = our_steps(name, sigmas, noise, **options)
    if options:  # k-diffusion reports x after the churn of the next step, we before
        ours, reference = ours[-1:], reference[-1:]
    assert_same_steps(ours, reference)


def test_amount_of_churn_equals_k_diffusion():
    sigmas, levels = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5]), []

    def noise(sigma_from, sigma_to):
        levels.append((sigma_from, sigma_to / sigma_from))
        return torch.zeros_like(START)

    our_steps("euler", sigmas, noise, s_churn=1.0, s_tmin=1.5, s_tmax=4.0)
    assert levels == [(4.0, 1.25), (2.0, 1.25)]  # 1 + s_churn / steps
    levels.clear()
    our_steps("euler", sigmas, noise, s_churn=40.0)
    assert [ratio for _, ratio in levels] == pytest.approx([math.sqrt(2)] * 4)


@every_schedule
@pytest.mark.parametrize("options", [{}, {"eta": 0.4, "s_noise": 0.9}, {"eta": 0.0}])
def test_dpm_2_ancestral_takes_k_diffusions_steps(sigmas, options):
    reference = k_steps(
        SAMPLING.sample_dpm_2_ancestral,
        sigmas,
        noise_sampler=lambda a, b: generator_noise(START, int(float(a) * 1e4))(a, b),
        **options,
    )
    noise = no_noise if options.get("eta") == 0 else lambda a, b: generator_noise(START, int(float(torch.tensor(a)) * 1e4))(a, b)
    assert_same_steps(our_steps("dpm_2_ancestral", sigmas, noise, **options), reference)


@every_schedule
@pytest.mark.parametrize("order", [1, 2, 3, 4])
def test_lms_takes_k_diffusions_steps(sigmas, order):
    ours, reference = our_steps("lms", sigmas, order=order), k_steps(SAMPLING.sample_lms, sigmas, order=order)
    if sigmas[-1] == 0:
        reference = reference[:-1]
        *ours, last = ours
        before = ours[-1] if ours else START * sigmas[0]
        assert torch.equal(last, TwistedDenoiser()(before, sigmas[-2].item()))
    assert_same_steps(ours, reference)


@every_schedule
def test_dpm_solver_3_takes_k_diffusions_steps(sigmas):
    solver = SAMPLING.DPMSolver(KModel(TwistedDenoiser()))
    x, reference = START * sigmas[0], []
    for sigma, sigma_next in zip(sigmas.double(), sigmas.double()[1:], strict=False):
        if sigma_next == 0:
            x = TwistedDenoiser()(x, sigma)
        else:
            x, _ = solver.dpm_solver_3_step(x, solver.t(sigma), solver.t(sigma_next))
        reference.append(x)
    assert_same_steps(our_steps("dpm_solver_3", sigmas), reference)


@every_schedule
@pytest.mark.parametrize("options", [{}, {"eta": 0.5, "s_noise": 0.9}])
def test_dpm_fast_takes_k_diffusions_steps(sigmas, options):
    first, last = sigmas[0].item(), last_positive(sigmas)
    noise = no_noise if not options else generator_noise(START)
    ours = our_steps("dpm_fast", sigmas, noise, **options)
    if first == last:
        assert torch.equal(ours[-1], TwistedDenoiser()(START * first, first))
        return
    drawn = generator_noise(START)
    arguments = last, first, len(sigmas) - 1
    assert_same_steps(ours, k_steps(SAMPLING.sample_dpm_fast, sigmas, *arguments, noise_sampler=drawn, **options))


@every_schedule
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"order": 2},
        {"rtol": 0.01, "atol": 0.001, "h_init": 0.5},
        {"pcoeff": 0.4, "icoeff": 0.3, "dcoeff": 0.1, "accept_safety": 0.9},
        {"pcoeff": 0.4, "icoeff": 0.3, "dcoeff": 0.1, "h_init": 4.0, "rtol": 0.01, "atol": 0.001},
        {"eta": 0.5, "s_noise": 0.9},
    ],
)
def test_dpm_adaptive_takes_k_diffusions_steps(sigmas, options):
    first, last = sigmas[0].item(), last_positive(sigmas)
    noise = generator_noise(START) if "eta" in options else no_noise
    ours = our_steps("dpm_adaptive", sigmas, noise, **options)
    if first == last:
        assert torch.equal(ours[-1], TwistedDenoiser()(START * first, first))
        return
    reports = []
    result = SAMPLING.sample_dpm_adaptive(
        KModel(TwistedDenoiser()),
        START * first,
        last,
        first,
        callback=reports.append,
        disable=True,
        noise_sampler=generator_noise(START),
        **options,
    )
    assert len(ours) == reports[-1]["n_accept"]
    assert_same_steps(ours[-1:], [result], relative=1e-3)  # k-diffusion computes its step lengths in float32


def test_dpm_adaptive_repeats_rejected_steps():
    denoise = GaussianDenoiser()
    steps = []
    sigmas = schedule_karras(SCHEDULE, 8)
    SAMPLERS["dpm_adaptive"](
        denoise, START * 14, sigmas, noise=no_noise, on_step=lambda *step: steps.append(step), h_init=4.0, rtol=0.001, atol=0.0001
    )
    assert [step[0] for step in steps] == list(range(len(steps)))
    assert len(denoise.levels) > 3 * len(steps)
    assert len(denoise.levels) % 3 == 0


def test_dpm_adaptive_stops_at_nan():
    with pytest.raises(ValueError, match="finite error"):
        SAMPLERS["dpm_adaptive"](
            lambda x, sigma: x * math.nan, START, torch.tensor([2.0, 1.0, 0.0]), noise=no_noise, on_step=ignore_step
        )
