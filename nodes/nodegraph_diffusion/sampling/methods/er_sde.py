"""ER-SDE-Solvers: a family of reverse SDEs that lead to the same data, told apart by how much noise they put in where."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.options import NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

NoiseScale = Callable[[float], float]
SolverType = Literal["er_sde", "reverse_time", "ode"]


def sample_er_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    s_noise: float = 1.0,
    max_stage: int = 3,
    solver_type: SolverType = "er_sde",
    eta: float = 1.0,
    integration_points: int = 200,
) -> Tensor:
    """Extended reverse-time SDE solver (Cui et al. 2023, Alg. 1 to 3).

    In terms of the estimate and of sigma as the time.
    One call of `denoise` a step. The noise scale phi(sigma) says which SDE: sigma (exp(sigma^0.3) + 10), the paper's fifth, for
    `er_sde`; sigma^(1 + eta) for `reverse_time`, which is the usual reverse SDE at `eta` 1; sigma for `ode`, which draws nothing.
    The estimate is extrapolated by as many of its derivatives as `max_stage` less one, told by the earlier steps. The integrals
    over 1 / phi are sums over `integration_points` from the lower level up, as in the paper's code. Without noise the order
    measures 2 with `max_stage` 2 and 3, the error of 3 being the smaller, and less with hundreds of steps, where the sums of 200
    points are what errs. `s_noise` scales the noise. A step to noise level 0 ends at the estimate.
    Raises ValueError for other values, or where s_noise or eta is negative.
    """
    require_at_least_0("er_sde", s_noise=s_noise, eta=eta)
    if max_stage not in (1, 2, 3):
        raise ValueError(f"sampler er_sde: expected max_stage 1, 2 or 3, found {max_stage}")
    if integration_points < 1:
        raise ValueError(f"sampler er_sde: expected at least 1 integration_points, found {integration_points}; 200 is usual")
    phi = _noise_scale(solver_type, eta)
    before: list[tuple[float, list[Tensor]]] = []  # the levels of the last steps and the derivatives there, the last one first
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            x = denoised
        else:
            derivatives = _derivatives(denoised, sigma, before[: max_stage - 1])
            kept = phi(sigma_next) / phi(sigma)
            x = x * kept + denoised * (1 - kept)
            if len(derivatives) > 1:
                weights = _weights(phi, sigma, sigma_next, integration_points)
                for derivative, weight in zip(derivatives[1:], weights, strict=False):
                    x = x + derivative * weight
            variance = sigma_next**2 - (sigma * kept) ** 2
            if variance > 0 and s_noise > 0 and solver_type != "ode":
                x = x + noise(sigma, sigma_next) * (s_noise * math.sqrt(variance))
            before = [(sigma, derivatives), *before[:1]]
        on_step(i, x, denoised)
    return x


def _noise_scale(solver_type: SolverType, eta: float) -> NoiseScale:
    """phi, of which only ratios count."""
    scales: dict[str, NoiseScale] = {
        "er_sde": lambda sigma: sigma * (math.exp(sigma**0.3) + 10),
        "reverse_time": lambda sigma: sigma ** (1 + eta),
        "ode": lambda sigma: sigma,
    }
    if solver_type not in scales:
        raise ValueError(f"sampler er_sde: expected solver_type {', '.join(map(repr, scales))}, found {solver_type!r}")
    return scales[solver_type]


def _derivatives(denoised: Tensor, sigma: float, before: list[tuple[float, list[Tensor]]]) -> list[Tensor]:
    """The estimate and its derivatives by sigma, as many as there are earlier steps to tell them by."""
    derivatives = [denoised]
    for order, (sigma_before, _) in enumerate(before, start=1):
        if len(before[0][1]) < order:
            break
        derivatives.append((derivatives[-1] - before[0][1][order - 1]) / ((sigma - sigma_before) / order))
    return derivatives


def _weights(phi: NoiseScale, sigma: float, sigma_next: float, points: int) -> tuple[float, float]:
    """What the first and second derivative at `sigma` count: dt + phi int 1 / phi, and dt^2 / 2 + phi int (s - sigma) / phi."""
    step = sigma_next - sigma
    width = -step / points
    levels = [sigma_next + k * width for k in range(points)]
    first = sum(1 / phi(level) for level in levels) * width
    second = sum((level - sigma) / phi(level) for level in levels) * width
    return step + phi(sigma_next) * first, step**2 / 2 + phi(sigma_next) * second


SAMPLERS = {
    "er_sde": SamplerSpec(
        sample_er_sde,
        stochastic=True,
        paper="Cui et al. 2023, arXiv:2309.06169",
        ranges={**NOISE_RANGES, "max_stage": (1, 3), "integration_points": (1, None)},
        aliases=("ER-SDE",),
    ),
}
