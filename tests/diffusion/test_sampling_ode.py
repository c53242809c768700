"""The deterministic and multistep samplers call the denoiser as often as declared, and check their options."""

from __future__ import annotations

import math

import pytest
import torch

from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedules.continuous import schedule_karras
from tests.support.steps import START, our_steps
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser, generator_noise, ignore_step, no_noise


def test_lower_tolerance_makes_dpm_adaptive_more_exact():
    sigmas, denoise, errors = torch.tensor([10.0, 0.1]), GaussianDenoiser(), []
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-4):
        sampled = SAMPLERS["dpm_adaptive"](
            denoise, START * 10, sigmas, noise=no_noise, on_step=ignore_step, rtol=tolerance, atol=tolerance / 10
        )
        errors.append((sampled - denoise.solution(START * 10, 10.0, 0.1)).abs().max().item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3


CALLS = {  # calls of the denoiser in n steps to level 0
    "dpm_2": lambda n: 2 * n - 1,
    "dpm_2_ancestral": lambda n: 2 * n - 1,
    "dpm_solver_3": lambda n: 3 * n - 2,
    "dpm_fast": lambda n: n,
    "heun": lambda n: 2 * n - 1,
    "heunpp2": lambda n: 3 * n - 3 if n > 1 else 1,
    "plms": lambda n: n + 1 if n > 1 else 1,
}
ONE_CALL = [
    *sorted({name for name, spec in SAMPLERS.items() if spec.order is not None} - CALLS.keys()),
    "euler_ancestral_cfg_pp",
    "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp",
]


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 9])
@pytest.mark.parametrize("name", [*CALLS, *ONE_CALL])
def test_number_of_denoiser_calls(name, steps):
    denoise, sigmas = GaussianDenoiser(), schedule_karras(SCHEDULE, steps)
    noise = generator_noise(START) if SAMPLERS[name].stochastic else no_noise
    SAMPLERS[name](denoise, START * sigmas[0], sigmas, noise=noise, on_step=ignore_step)
    assert len(denoise.levels) == CALLS.get(name, lambda n: n)(steps)
    assert all(level > 0 for level in denoise.levels)


ONE_STEP = [  # these keep nothing from step to step
    "euler_cfg_pp",
    "euler_ancestral_cfg_pp",
    "dpm_2",
    "dpm_2_ancestral",
    "dpm_solver_3",
]


@pytest.mark.parametrize("name", ONE_STEP)
def test_two_parts_of_a_run_equal_the_whole(name):
    sigmas = schedule_karras(SCHEDULE, 6)
    whole = our_steps(name, sigmas, generator_noise(START))
    noise = generator_noise(START)
    half = our_steps(name, sigmas[:4], noise)[-1]
    rest = SAMPLERS[name](TwistedDenoiser(), half, sigmas[3:].double(), noise=noise, on_step=ignore_step)
    assert torch.equal(rest, whole[-1])


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("euler", {"s_churn": -1.0}, "sampler euler: expected s_churn of at least 0, found -1.0"),
        ("heun", {"s_noise": -1.0}, "sampler heun: expected s_noise of at least 0"),
        ("heunpp2", {"s_tmin": -1.0}, "sampler heunpp2: expected s_tmin of at least 0"),
        ("dpm_2", {"s_tmax": math.nan}, "sampler dpm_2: expected s_tmax of at least 0, found nan"),
        ("dpm_2_ancestral", {"eta": -1.0}, "sampler dpm_2_ancestral: expected eta of at least 0"),
        ("euler_ancestral_cfg_pp", {"s_noise": -1.0}, "sampler euler_ancestral_cfg_pp: .* s_noise of at least 0, found -1.0"),
        ("res_multistep_ancestral", {"eta": -1.0}, "sampler res_multistep_ancestral: .* eta of at least 0, found -1.0"),
        (
            "res_multistep_ancestral_cfg_pp",
            {"eta": -1.0},
            "sampler res_multistep_ancestral_cfg_pp: .* eta of at least 0, found -1.0",
        ),
        ("lms", {"order": 0}, "sampler lms: expected order between 1 and 4, found 0"),
        ("ipndm", {"max_order": 5}, "sampler ipndm: expected max_order between 1 and 4, found 5"),
        ("ipndm_v", {"max_order": 5}, "sampler ipndm_v: expected max_order between 1 and 4, found 5"),
        ("deis", {"max_order": 0}, "sampler deis: expected max_order between 1 and 4, found 0"),
        ("deis", {"integration_points": 1}, "sampler deis: expected at least 2 integration_points, found 1"),
        ("dpm_fast", {"eta": -1.0}, "sampler dpm_fast: expected eta of at least 0"),
        ("dpm_adaptive", {"eta": -1.0}, "sampler dpm_adaptive: expected eta"),
        ("dpm_adaptive", {"order": 4}, "order 2 or 3, found 4"),
        ("dpm_adaptive", {"atol": 0.0}, "atol and h_init above 0, found rtol 0.05, atol 0.0"),
        ("dpm_adaptive", {"icoeff": 0.0}, "not all 0"),
        ("dpm_adaptive", {"accept_safety": 2.0}, "at most 1, found 0.0, 1.0, 0.0 and 2.0"),
        ("restart", {"s_noise": -1.0}, "sampler restart: expected s_noise of at least 0"),
        ("restart", {"intervals": [[2.0, 0.1, 3, 1]]}, r"found \[2.0, 0.1, 3, 1\]"),
        ("restart", {"intervals": [[0.1, 2.0, 3]]}, r"found \[0.1, 2.0, 3\]"),
        ("restart", {"intervals": [[0.1, 2.0, 3.5, 1]]}, r"found \[0.1, 2.0, 3.5, 1\]"),
        ("restart", {"intervals": [[0.1, 2.0, 3, 0]]}, r"found \[0.1, 2.0, 3, 0\]"),
    ],
)
def test_options_out_of_range_are_refused(name, options, message):
    with pytest.raises(ValueError, match=message):
        our_steps(name, schedule_karras(SCHEDULE, 2), **options)
