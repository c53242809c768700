"""SA-Solver: stochastic Adams methods, which predict a step from past estimates and correct it by the new one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.options import Range
from nodegraph_diffusion.sampling.methods.exponential import StepNoise
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
    """SA-Solver (Xue et al. 2023, Alg. 1, over the estimate and lambda = -log sigma).

    A step is predicted from the last `predictor_order` estimates (Eq. 14) and, once the network has seen where it led, taken again
    with the new one among `corrector_order` (Eq. 17; 0 leaves it), with the same noise. One call of `denoise` a step;
    `use_pece` calls it again after the correction, and goes on from that. Toward noise level 0, and at the start, the orders are
    lower; a step to 0 ends at the estimate, uncorrected unless with `use_pece`. `simple_order_2` takes the paper's simpler weights
    where an order is 2.

    The paper's tau is `eta` for a step to a level between the parts `sde_start` and `sde_end` of the model's time, from 0 at
    the largest noise to 1 at the least, and 0 elsewhere: there it draws none. The time is that of `denoise.noise_schedule`.
    `s_noise` scales the noise. Raises ValueError where eta or s_noise is negative, for orders outside 1 to 6 (corrector: 0 to 6),
    or unless 0 <= sde_start <= sde_end <= 1.
    """
    require_at_least_0("sa_solver", eta=eta, s_noise=s_noise)
    _require_orders(predictor_order, corrector_order)
    noisy = _noisy_levels(denoise.noise_schedule, sde_start, sde_end)
    levels = sigmas.tolist()
    steps = len(levels) - 1
    left = steps if levels[-1] == 0 else math.inf  # steps for which there is to be an estimate above noise level 0
    history: list[tuple[float, Tensor]] = []  # levels and the estimates there
    predicted = x
    share: float = 0.0  # tau^2 of the step that led here
    fresh: Tensor | float = 0.0  # and its noise
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise(predicted, sigma)
        history = [*history, (sigma, denoised)][-max(predictor_order, corrector_order) :]
        corrected_by = int(min(corrector_order, len(history), left - i))
        if i == 0 or corrected_by == 0 or (sigma_next == 0 and not use_pece):
            x = predicted
        else:
            x = _adams(x, levels[i - 1], sigma, history[-corrected_by:], share, simple_order_2) + fresh
            if use_pece:
                history[-1] = sigma, denoise(x, sigma)
        if sigma_next == 0:
            predicted = history[-1][1]
        else:
            share = eta**2 if noisy(sigma_next) else 0.0
            fresh = StepNoise(noise, sigma, share, s_noise).down_to(sigma_next)
            predicted_by = int(min(predictor_order, len(history), left - 1 - i))
            predicted = _adams(x, sigma, sigma_next, history[-predicted_by:], share, simple_order_2) + fresh
        on_step(i, predicted, denoised)
    return predicted


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

    Two calls of `denoise` a step, but one in the first.
    Options and errors as there.
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


def _adams(x: Tensor, sigma: float, sigma_next: float, history: list[tuple[float, Tensor]], share: float, simple: bool) -> Tensor:
    """`x` from `sigma` to `sigma_next` along the polynomial in lambda through the estimates of `history`, without noise."""
    h = math.log(sigma / sigma_next)
    ahead = [math.log(level / sigma_next) for level, _ in history]  # how far the end of the step is from each, in lambda
    weights = _simple_weights(ahead, h, 1 + share) if simple and len(ahead) == 2 else _weights(ahead, h, 1 + share)
    x = x * (sigma_next / sigma * math.exp(-share * h))
    for weight, (_, denoised) in zip(weights, history, strict=True):
        x = x + denoised * weight
    return x


def _weights(ahead: Sequence[float], h: float, rate: float) -> list[float]:
    """The integrals of rate exp(-rate u) l_k(u), u from 0 to h, of the Lagrange polynomials l_k over the points `ahead`."""
    moments = [-math.expm1(-rate * h)]  # of rate exp(-rate u) u^p, by parts
    for p in range(1, len(ahead)):
        moments.append(moments[-1] * p / rate - h**p * math.exp(-rate * h))
    return [
        sum(coefficient * moment for coefficient, moment in zip(_lagrange(ahead, k), moments, strict=True))
        for k in range(len(ahead))
    ]


def _lagrange(points: Sequence[float], k: int) -> list[float]:
    """The coefficients, from the constant one up, of the polynomial that is 1 at the k-th of `points` and 0 at the others."""
    coefficients = [1.0]
    for j, point in enumerate(points):
        if j != k:
            scale = 1 / (points[k] - point)
            raised, lowered = [0.0, *coefficients], [*coefficients, 0.0]
            coefficients = [(up - low * point) * scale for up, low in zip(raised, lowered, strict=True)]
    return coefficients


def _simple_weights(ahead: Sequence[float], h: float, rate: float) -> list[float]:
    """The weights of two estimates, the older one first, where the slope between them counts to second order in h (App. D)."""
    older, newer = ahead
    whole = -math.expm1(-rate * h)
    if newer == 0:  # the corrector
        return [whole - rate * h / 2, rate * h / 2]
    extrapolated = rate * h**2 / 2 / (older - newer)
    return [-extrapolated, whole + extrapolated]


def _noisy_levels(noise_schedule: NoiseSchedule, start: float, end: float) -> Callable[[float], bool]:
    """Whether a noise level lies between two parts of the model's time, from 0 at the largest to 1 at the least."""
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
