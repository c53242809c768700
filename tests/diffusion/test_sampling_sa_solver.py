"""SA-Solver takes the steps of its paper and of diffusers' scheduler.

The reference is written here with the paper's integrals by quadrature.
"""

from __future__ import annotations

import math
from itertools import pairwise

import diffusers
import pytest
import torch
from scipy.integrate import quad

from nodegraph_diffusion.schedules import schedule_karras, schedule_normal
from tests.support.diffusers_schedulers import PUBLISHED, our_steps, preserving, reference_steps
from tests.support.stochastic_samplers import SIGMAS, START, assert_near, run
from tests.support.toy_denoisers import SCHEDULE, TwistedDenoiser, generator_noise

# diffusers hands tensors to numpy in a way that numpy is about to drop
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

ALWAYS = {"sde_start": 0.0, "sde_end": 1.0}  # noise in every step


def sa_solver(denoise, x, sigmas, noise, eta=1.0, predictor_order=3, corrector_order=4, use_pece=False, between=(0.0, math.inf)):
    """Eq. 14 and 17 of the paper by quadrature, with ComfyUI's orders."""

    def step(x, sigma, sigma_next, tau, points):
        rate, end = 1 + tau**2, -math.log(sigma_next)
        times = [-math.log(level) for level, _ in points]
        result = sigma_next / sigma * math.exp(-(tau**2) * (end + math.log(sigma))) * x
        for k, (_, estimate) in enumerate(points):

            def basis(time, k=k):
                others = [other for j, other in enumerate(times) if j != k]
                return math.prod((time - other) / (times[k] - other) for other in others)

            def integrand(time, basis=basis):
                return rate * math.exp(-rate * (end - time)) * basis(time)

            result = result + quad(integrand, -math.log(sigma), end, epsabs=1e-13, epsrel=1e-12)[0] * estimate
        return result

    steps, to_0 = len(sigmas) - 1, sigmas[-1] == 0
    points, predicted, tau, fresh = [], x, 0.0, 0.0
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas)):
        points.append((sigma, denoise(predicted, sigma)))
        order = min(corrector_order, len(points), steps - i if to_0 else 99)
        if i > 0 and order and (sigma_next > 0 or use_pece):
            x = step(x, sigmas[i - 1], sigma, tau, points=points[-order:]) + fresh
            if use_pece:
                points[-1] = (sigma, denoise(x, sigma))
        else:
            x = predicted
        if sigma_next == 0:
            return points[-1][1]
        tau = eta if between[0] <= sigma_next <= between[1] else 0.0
        h = math.log(sigma / sigma_next)
        fresh = noise(sigma, sigma_next) * sigma_next * math.sqrt(1 - math.exp(-2 * tau**2 * h)) if tau else 0.0
        order = min(predictor_order, len(points), steps - 1 - i if to_0 else 99)
        predicted = step(x, sigma, sigma_next, tau, points=points[-order:]) + fresh
    return predicted


@pytest.mark.parametrize("use_pece", [False, True])
@pytest.mark.parametrize("sigmas", SIGMAS)
def test_sa_solver_steps(sigmas, use_pece):
    x = START.double() * sigmas[0]
    between = [float(SCHEDULE.sigma(part * 999)) for part in (0.2, 0.8)]
    name = "sa_solver_pece" if use_pece else "sa_solver"
    ours = run(name, TwistedDenoiser(), x, sigmas, noise=generator_noise(x))
    reference = sa_solver(TwistedDenoiser(), x, sigmas.tolist(), generator_noise(x), use_pece=use_pece, between=between)
    assert_near(ours, reference, 1e-7)


@pytest.mark.parametrize(("predictor_order", "corrector_order"), [(1, 0), (1, 1), (2, 0), (2, 3), (4, 4), (5, 6)])
@pytest.mark.parametrize("eta", [0.0, 0.6])
def test_sa_solver_steps_of_each_order(predictor_order, corrector_order, eta):
    sigmas = schedule_normal(SCHEDULE, 9).double()
    orders = {"eta": eta, "predictor_order": predictor_order, "corrector_order": corrector_order}
    x = START.double() * sigmas[0]
    ours = run("sa_solver", TwistedDenoiser(), x, sigmas, noise=generator_noise(x), **orders, **ALWAYS)
    assert_near(ours, sa_solver(TwistedDenoiser(), x, sigmas.tolist(), generator_noise(x), **orders), 1e-6)


def test_sa_solver_draws_noise_only_in_its_interval():
    sigmas, drawn = schedule_normal(SCHEDULE, 20), []

    def noise(sigma_from, sigma_to):
        drawn.append(sigma_to)
        return torch.ones(())

    run("sa_solver", TwistedDenoiser(), START * sigmas[0], sigmas, noise=noise)
    high, low = (float(SCHEDULE.sigma(part * 999)) for part in (0.8, 0.2))
    assert drawn == [sigma for sigma in sigmas[1:].tolist() if low <= sigma <= high]
    assert 10 < len(drawn) < 14


@pytest.mark.parametrize("orders", [(1, 1), (2, 2), (3, 3), (3, 4), (2, 3)])
@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("steps", [3, 4, 12])
def test_sa_solver_takes_diffusers_steps(orders, tau, steps):
    """diffusers lowers the orders one step later toward 0, so this schedule ends above it; its tau is that of the earlier level."""
    predictor_order, corrector_order = orders
    scheduler = diffusers.SASolverScheduler(
        **PUBLISHED,
        predictor_order=predictor_order,
        corrector_order=corrector_order,
        tau_func=lambda timestep: torch.tensor(tau),
        lower_order_final=False,
    )
    scheduler.set_timesteps(steps)
    sigmas = schedule_karras(SCHEDULE, steps + 1)[:-1].double()
    scheduler.sigmas = sigmas
    draws = reference_steps(scheduler, sigmas, preserving, generator=torch.Generator().manual_seed(3))
    x = START.double()
    noise = generator_noise(x)
    options = {"predictor_order": predictor_order, "corrector_order": corrector_order, "simple_order_2": True, "eta": tau}
    for ours, theirs in zip(our_steps("sa_solver", sigmas, noise, **options, **ALWAYS), draws, strict=True):
        assert_near(ours, theirs)
