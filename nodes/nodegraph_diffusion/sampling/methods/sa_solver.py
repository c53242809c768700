"""SA-Solver: stochastic Adams methods, which predict a step from past estimates and correct it with the new one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.options import Range
from nodegraph_diffusion.sampling.methods.exponential import SDENoise
from nodegraph_diffusion.sampling.options import NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

MAX_ORDER = 6


def sample_sa_solver(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
    sde_start: float = 0.2,
    sde_end: float = 0.8,
    predictor_order: int = 3,
    corrector_order: int = 4,
    use_pece: bool = False,
    simple_order_2: bool = False,
) -> Tensor:
    """SA-Solver, a stochastic Adams method (Xue et al. 2023, Alg. 1).

    With data prediction, over lambda = -log sigma. The SA-Predictor takes a step with the last `predictor_order` estimates (Eq.
    14). The SA-Corrector takes it again with the same noise, from `corrector_order` estimates, the one at its end included (Eq.
    17); with order 0 there is no correction. One call of `denoise` a step; `use_pece` calls it again after the correction and
    continues with that estimate. The orders are lower at the start and toward noise level 0. A step to 0 ends at the estimate,
    which is corrected only with `use_pece`. `simple_order_2` uses the paper's simpler coefficients for order 2.

    The paper's tau is `eta` in a step to a level between the times `sde_start` and `sde_end`, and 0 elsewhere, where no noise is
    drawn. Time is the model's: it runs from 0 at the largest noise level to 1 at the smallest. It comes from
    `denoise.noise_schedule`. `s_noise` scales the noise. Raises ValueError if eta or s_noise is negative, for orders outside 1 to 6
    (corrector: 0 to 6), or unless 0 <= sde_start <= sde_end <= 1.
    """
    require_at_least_0("sa_solver", eta=eta, s_noise=s_noise)
    _require_orders(predictor_order, corrector_order)
    in_sde_interval = _sde_interval(denoise.noise_schedule, sde_start, sde_end)
    levels = sigmas.tolist()
    steps = len(levels) - 1
    order_limit = steps if levels[-1] == 0 else math.inf  # toward level 0, the order falls with the remaining steps
    buffer: list[tuple[float, Tensor]] = []  # (sigma, estimate) of the last steps, oldest first
    x_predicted = x
    tau_squared: float = 0.0  # of the step that is corrected
    xi: Tensor | float = 0.0  # the noise of that step
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise(x_predicted, sigma)
        buffer = [*buffer, (sigma, denoised)][-max(predictor_order, corrector_order) :]
        order = int(min(corrector_order, len(buffer), order_limit - i))
        if i == 0 or order == 0 or (sigma_next == 0 and not use_pece):
            x = x_predicted
        else:
            x = _adams_step(x, levels[i - 1], sigma, buffer[-order:], tau_squared=tau_squared, simple=simple_order_2) + xi
            if use_pece:
                buffer[-1] = sigma, denoise(x, sigma)
        if sigma_next == 0:
            x_predicted = buffer[-1][1]
        else:
            tau_squared = eta**2 if in_sde_interval(sigma_next) else 0.0
            xi = SDENoise(noise, sigma, tau_squared, s_noise).at(sigma_next)
            order = int(min(predictor_order, len(buffer), order_limit - 1 - i))
            x_predicted = _adams_step(x, sigma, sigma_next, buffer[-order:], tau_squared=tau_squared, simple=simple_order_2) + xi
        on_step(i, x_predicted, denoised)
    return x_predicted


def sample_sa_solver_pece(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
    sde_start: float = 0.2,
    sde_end: float = 0.8,
    predictor_order: int = 3,
    corrector_order: int = 4,
    simple_order_2: bool = False,
) -> Tensor:
    """`sa_solver` with `use_pece`: predict, evaluate, correct, evaluate.

    Two calls of `denoise` a step, one in the first. Options and errors are those of `sa_solver`.
    """
    return sample_sa_solver(
        denoise,
        x,
        sigmas,
        noise=noise,
        on_step=on_step,
        eta=eta,
        s_noise=s_noise,
        sde_start=sde_start,
        sde_end=sde_end,
        predictor_order=predictor_order,
        corrector_order=corrector_order,
        use_pece=True,
        simple_order_2=simple_order_2,
    )


def _adams_step(
    x: Tensor, sigma: float, sigma_next: float, buffer: list[tuple[float, Tensor]], *, tau_squared: float, simple: bool
) -> Tensor:
    """`x` at `sigma_next`, without noise, from the polynomial in lambda through the estimates of `buffer` (Eq. 14 and 17)."""
    h = math.log(sigma / sigma_next)
    distances = [math.log(level / sigma_next) for level, _ in buffer]  # in lambda, to the end of the step
    rate = 1 + tau_squared
    b = _simple_coefficients(distances, h, rate) if simple and len(distances) == 2 else _coefficients(distances, h, rate)
    x = x * (sigma_next / sigma * math.exp(-tau_squared * h))
    for b_j, (_, denoised) in zip(b, buffer, strict=True):
        x = x + denoised * b_j
    return x


def _coefficients(distances: Sequence[float], h: float, rate: float) -> list[float]:
    """The b_j: the integrals of rate exp(-rate u) l_j(u), u from 0 to h, with the Lagrange polynomials l_j over `distances`."""
    moments = [-math.expm1(-rate * h)]  # the integrals of rate exp(-rate u) u^p, by parts
    for p in range(1, len(distances)):
        moments.append(moments[-1] * p / rate - h**p * math.exp(-rate * h))
    return [
        sum(coefficient * moment for coefficient, moment in zip(_lagrange(distances, j), moments, strict=True))
        for j in range(len(distances))
    ]


def _lagrange(points: Sequence[float], j: int) -> list[float]:
    """The coefficients of the Lagrange polynomial l_j over `points`, from the constant one up."""
    coefficients = [1.0]
    for k, point in enumerate(points):
        if k != j:
            scale = 1 / (points[j] - point)
            times_u, unchanged = [0.0, *coefficients], [*coefficients, 0.0]
            coefficients = [(high - low * point) * scale for high, low in zip(times_u, unchanged, strict=True)]
    return coefficients


def _simple_coefficients(distances: Sequence[float], h: float, rate: float) -> list[float]:
    """The b_j of two estimates, the older one first, with the change between them to second order in h (App. D)."""
    older, newer = distances
    total = -math.expm1(-rate * h)
    if newer == 0:  # the corrector
        return [total - rate * h / 2, rate * h / 2]
    extrapolation = rate * h**2 / 2 / (older - newer)
    return [-extrapolation, total + extrapolation]


def _sde_interval(noise_schedule: NoiseSchedule, start: float, end: float) -> Callable[[float], bool]:
    """A function that returns whether a noise level is between two times; time is 0 at the largest level, 1 at the smallest."""
    if not 0 <= start <= end <= 1:
        raise ValueError(
            f"sampler sa_solver: expected 0 <= sde_start <= sde_end <= 1, found {start} and {end}; 0.2 and 0.8 are the defaults"
        )
    high, low = noise_schedule.sigma_at(start), noise_schedule.sigma_at(end)
    return lambda sigma: low <= sigma <= high


def _require_orders(predictor_order: int, corrector_order: int) -> None:
    if not 1 <= predictor_order <= MAX_ORDER:
        raise ValueError(f"sampler sa_solver: expected predictor_order from 1 to {MAX_ORDER}, found {predictor_order}; 3 is usual")
    if not 0 <= corrector_order <= MAX_ORDER:
        raise ValueError(
            f"sampler sa_solver: expected corrector_order from 0 (none) to {MAX_ORDER}, found {corrector_order}; 4 is usual"
        )


PAPER = "Xue et al. 2023, arXiv:2309.05019"
RANGES: dict[str, Range] = {
    **NOISE_RANGES,
    "sde_start": (0.0, 1.0),
    "sde_end": (0.0, 1.0),
    "predictor_order": (1, MAX_ORDER),
    "corrector_order": (0, MAX_ORDER),
}

SAMPLERS = {
    "sa_solver": SamplerSpec(
        sample_sa_solver, stochastic=True, paper=PAPER, ranges=RANGES, aliases=("SA-Solver", "SASolverScheduler")
    ),
    "sa_solver_pece": SamplerSpec(
        sample_sa_solver_pece, stochastic=True, evaluations_per_step=2, paper=PAPER, ranges=RANGES, aliases=("SA-Solver PECE",)
    ),
}
