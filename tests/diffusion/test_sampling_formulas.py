"""Samplers that neither k-diffusion nor diffusers has, against their formulas, which are written again here."""

from __future__ import annotations

import math

import pytest
import torch

from nodegraph_diffusion.sampling import SAMPLERS
from tests.support.steps import START, assert_same_steps, every_schedule, our_steps
from tests.support.toy_denoisers import TwistedDenoiser, generator_noise, ignore_step, no_noise


def slope_at(x, sigma):
    return (x - TwistedDenoiser()(x, sigma)) / sigma


@every_schedule
def test_heunpp2_is_its_formula(sigmas):
    levels = sigmas.double().tolist()
    x, reference = START * levels[0], []
    for i in range(len(levels) - 1):
        h, d = levels[i + 1] - levels[i], slope_at(x, levels[i])
        if i == len(levels) - 2:
            x = x + h * d
        else:
            x2 = x + h * d
            d2 = slope_at(x2, levels[i + 1])
            if i == len(levels) - 3:
                w2 = levels[i + 1] / (2 * levels[0])
                x = x + h * ((1 - w2) * d + w2 * d2)
            else:
                d3 = slope_at(x2 + (levels[i + 2] - levels[i + 1]) * d2, levels[i + 2])
                w2, w3 = levels[i + 1] / (3 * levels[0]), levels[i + 2] / (3 * levels[0])
                x = x + h * ((1 - w2 - w3) * d + w2 * d2 + w3 * d3)
        reference.append(x)
    assert_same_steps(our_steps("heunpp2", sigmas), reference, 1e-7)


def test_heunpp2_churns():
    sigmas = torch.tensor([8.0, 4.0, 2.0])
    drawn = generator_noise(START)(0, 0)
    ours = our_steps("heunpp2", sigmas, lambda a, b: drawn, s_churn=0.5, s_tmin=5.0, s_noise=0.9)
    x = START * 8 + drawn * 0.9 * 8 * math.sqrt(1.25**2 - 1)
    d = slope_at(x, 10.0)
    w2 = 4 / 16
    torch.testing.assert_close(ours[0], x + (4 - 10) * ((1 - w2) * d + w2 * slope_at(x + (4 - 10) * d, 4.0)))


@every_schedule
def test_ipndm_v_has_the_published_coefficients(sigmas):
    """The coefficients of AMED-Solver's code, with its errors."""
    levels = sigmas.double().tolist()
    x, reference, ds = START * levels[0], [], []
    for i in range(len(levels) - 1):
        ds = [slope_at(x, levels[i]), *ds][:4]
        h = [levels[i + 1 - k] - levels[i - k] for k in range(len(ds))]
        c = [1.0, 0, 0, 0]
        if len(ds) == 2:
            c = [(2 + h[0] / h[1]) / 2, -h[0] / h[1] / 2]
        if len(ds) > 2:
            t1 = (1 - h[0] / (3 * (h[0] + h[1])) * (h[0] * (h[0] + h[1])) / (h[1] * (h[1] + h[2]))) / 2
            c = [(2 + h[0] / h[1]) / 2 + t1, -h[0] / h[1] / 2 - (1 + h[1] / h[2]) * t1, t1 * h[1] / h[2]]
        if len(ds) == 4:
            q = h[1] * (h[1] + h[2]) / (h[2] * (h[2] + h[3]))
            t2 = (1 - h[0] / (3 * (h[0] + h[1]))) / 2 + (1 - h[0] / (2 * (h[0] + h[1]))) * h[0] / (6 * (h[0] + h[1] + h[2]))
            t2 *= h[0] * (h[0] + h[1]) * (h[0] + h[1] + h[2]) / (h[1] * (h[1] + h[2]) * (h[1] + h[2] + h[3]))
            c[0] += t2
            c[1] -= (1 + h[1] / h[2] + q) * t2
            c[2] += (h[1] / h[2] + q * (1 + h[2] / h[3])) * t2
            c.append(-t2 * q * h[1] / h[2])
        step = h[0] * sum(weight * d for weight, d in zip(c, ds, strict=False))
        x = TwistedDenoiser()(x, levels[i]) if levels[i + 1] == 0 else x + step
        reference.append(x)
    assert_same_steps(our_steps("ipndm_v", sigmas), reference, 1e-7)


@every_schedule
def test_ipndm_v_is_lms_up_to_second_order(sigmas):
    assert_same_steps(our_steps("ipndm_v", sigmas, max_order=2), our_steps("lms", sigmas, order=2), 1e-9)


@every_schedule
@pytest.mark.parametrize(("max_order", "summed"), [(2, True), (3, True), (4, True), (3, False)])
def test_deis_is_the_integral_in_time(sigmas, max_order, summed):
    """As a sum, as in ComfyUI, or with more terms the exact integral.

    The sum has 10000 terms from one end of the step to the other. Time is that of the process with sigma(0.001) = 0.002 and
    sigma(1) = 80.
    """
    beta_d = 2 * (math.log(0.002**2 + 1) / 1e-3 - math.log(80**2 + 1)) / (1e-3 - 1)
    beta_min = math.log(80**2 + 1) - 0.5 * beta_d
    levels = sigmas.double()
    times = ((beta_min**2 + 2 * beta_d * (levels**2 + 1).log()).sqrt() - beta_min) / beta_d
    assert torch.allclose(torch.expm1(beta_d / 2 * times**2 + beta_min * times), levels**2)
    x, reference, ds = START * levels[0], [], []
    for i in range(len(levels) - 1):
        ds = [slope_at(x, levels[i]), *ds][:max_order]
        if levels[i + 1] == 0 or len(ds) == 1:
            x = x + (levels[i + 1] - levels[i]) * ds[0]
        else:
            grid = torch.linspace(times[i], times[i + 1], 10_000 if summed else 10_001, dtype=torch.float64)
            past = times[[i - k for k in range(len(ds))]]
            variance = torch.expm1(beta_d / 2 * grid**2 + beta_min * grid)
            if summed:  # the derivative of sigma by time, at the terms
                rise = (variance + 1) * (beta_d * grid + beta_min) / (2 * variance.sqrt()) * (times[i + 1] - times[i]) / 10_000
            else:
                rise, grid = variance.sqrt().diff(), (grid[1:] + grid[:-1]) / 2
            for j, d in enumerate(ds):
                others = [k for k in range(len(ds)) if k != j]
                basis = math.prod((grid - past[k]) / (past[j] - past[k]) for k in others)
                x = x + (basis * rise).sum() * d
        reference.append(x)
    points, tolerance = (10_000, 1e-9) if summed else (200_000, 1e-5)
    assert_same_steps(our_steps("deis", sigmas, max_order=max_order, integration_points=points), reference, tolerance)


@every_schedule
def test_deis_in_rho_is_lms(sigmas):
    assert_same_steps(our_steps("deis", sigmas, deis_mode="rhoab"), our_steps("lms", sigmas, order=3), 1e-9)


def sides(cfg_pp):
    """A function that returns (denoised, the estimate that the noise is computed from)."""

    def both(x, sigma):
        denoised, _, negative = TwistedDenoiser().predict(x, sigma)
        return denoised, negative if cfg_pp else denoised

    return both


@every_schedule
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_euler_cfg_pp_is_its_formula(sigmas, eta):
    x, reference, noise = START * sigmas[0], [], generator_noise(START)
    for sigma, sigma_next in zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False):
        denoised, _, negative = TwistedDenoiser().predict(x, sigma)
        up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
        down = math.sqrt(sigma_next**2 - up**2)
        x = denoised + down * (x - negative) / sigma
        if up > 0:
            x = x + up * 0.9 * noise(sigma, sigma_next)
        reference.append(x)
    assert_same_steps(our_steps("euler_ancestral_cfg_pp", sigmas, generator_noise(START), eta=eta, s_noise=0.9), reference, 1e-7)
    if eta == 0:
        assert_same_steps(our_steps("euler_cfg_pp", sigmas), reference, 1e-7)


@every_schedule
@pytest.mark.parametrize("cfg_pp", [False, True])
@pytest.mark.parametrize("eta", [0.0, 0.6, 1.0])
def test_res_multistep_is_its_formula(sigmas, eta, cfg_pp):
    """x e^-h + h (b1 f + b2 f'), f' being the last estimate, at c2 h from the start: b2 = phi2(-h) / c2, b1 = phi1(-h) - b2."""
    x, reference, noise = START * sigmas[0], [], generator_noise(START)
    last = None
    for sigma, sigma_next in zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False):
        denoised, seen = sides(cfg_pp)(x, sigma)
        up = min(sigma_next, eta * math.sqrt(sigma_next**2 * (sigma**2 - sigma_next**2) / sigma**2))
        down = math.sqrt(sigma_next**2 - up**2)
        if last is None or down == 0:
            x = denoised + down * (x - seen) / sigma
        else:
            old, old_sigma, old_down = last
            h = math.log(sigma) - math.log(down)
            c2 = (math.log(old_down) - math.log(old_sigma)) / h
            phi1 = (math.exp(-h) - 1) / -h
            phi2 = (math.exp(-h) - 1 + h) / h**2
            x = math.exp(-h) * (x + denoised - seen) + h * ((phi1 - phi2 / c2) * seen + phi2 / c2 * old)
        if up > 0:
            x = x + up * noise(sigma, sigma_next)
        last = seen, sigma, down
        reference.append(x)
    name = f"res_multistep_ancestral{'_cfg_pp' * cfg_pp}"
    assert_same_steps(our_steps(name, sigmas, generator_noise(START), eta=eta), reference, 1e-7)
    if eta == 0:
        assert_same_steps(our_steps(f"res_multistep{'_cfg_pp' * cfg_pp}", sigmas), reference, 1e-7)


@every_schedule
@pytest.mark.parametrize("cfg_pp", [False, True])
@pytest.mark.parametrize("gamma", [1.0, 2.0, 2.5])
def test_gradient_estimation_is_its_formula(sigmas, gamma, cfg_pp):
    x, reference, old = START * sigmas[0], [], None
    for sigma, sigma_next in zip(sigmas.tolist(), sigmas.tolist()[1:], strict=False):
        denoised, seen = sides(cfg_pp)(x, sigma)
        slope = (x - seen) / sigma
        estimated = slope if old is None or sigma_next == 0 else gamma * slope + (1 - gamma) * old
        x = x + (denoised - seen) + (sigma_next - sigma) * estimated
        old = slope
        reference.append(x)
    name = "gradient_estimation_cfg_pp" if cfg_pp else "gradient_estimation"
    assert_same_steps(our_steps(name, sigmas, ge_gamma=gamma), reference, 1e-7)


@every_schedule
def test_ddpm_has_the_posterior_variance(sigmas):
    """Eq. 11 for the mean, over the predicted noise, and beta-tilde of Eq. 7: what ComfyUI's `ddpm` computes, too."""
    x, reference, noise = START * sigmas[0], [], generator_noise(START)
    for sigma, sigma_next in zip(sigmas.double().tolist(), sigmas.double().tolist()[1:], strict=False):
        alpha_bar, alpha_bar_next = 1 / (1 + sigma**2), 1 / (1 + sigma_next**2)
        alpha = alpha_bar / alpha_bar_next
        epsilon = slope_at(x, sigma)
        z = (x * math.sqrt(alpha_bar) - (1 - alpha) / math.sqrt(1 - alpha_bar) * epsilon) / math.sqrt(alpha)
        if sigma_next > 0:
            z = z + math.sqrt((1 - alpha_bar_next) / (1 - alpha_bar) * (1 - alpha)) * noise(sigma, sigma_next)
        x = z / math.sqrt(alpha_bar_next)
        reference.append(x)
    assert_same_steps(our_steps("ddpm", sigmas, generator_noise(START)), reference, 1e-7)


@pytest.mark.parametrize("name", ["uni_pc", "uni_pc_bh2"])
def test_uni_pc_rounds_its_last_level_as_comfyui(name):
    """It replaces 0: in float32, 1 - alpha^2 has four significant bits at 0.001, so 0.000977 of the noise remains."""
    x, sigmas = torch.ones(1, 1, 1, 1), torch.tensor([1.0, 0.0])
    left = [
        float(SAMPLERS[name](lambda x, sigma: x * 0, x, levels, noise=no_noise, on_step=ignore_step))
        for levels in (sigmas, sigmas.double())
    ]
    assert left == pytest.approx([0.000977, 0.001], rel=1e-3)


@pytest.mark.parametrize("levels", [[0.002, 0.0], [1.0, 0.00050002, 0.00050001, 0.0005]])
@pytest.mark.parametrize("name", ["uni_pc", "uni_pc_bh2"])
def test_uni_pc_works_at_levels_too_low_for_float32(name, levels):
    x = torch.ones(1, 1, 1, 1) * levels[0]
    left = SAMPLERS[name](lambda x, sigma: x * 0, x, torch.tensor(levels), noise=no_noise, on_step=ignore_step)
    assert float(left) == pytest.approx(levels[-1] or 0.0002, rel=1e-3)
