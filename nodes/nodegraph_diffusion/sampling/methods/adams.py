"""Adams-Bashforth methods: a step combines the derivatives of the last few steps.

The derivative dx/dsigma = (x - denoised) / sigma is the noise prediction epsilon of the papers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.multistep import ORDER_RANGE, adams_bashforth_coefficients, require_order
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

Increment = Callable[[Sequence[float], float, Sequence["Tensor"]], "Tensor"]
"""`increment(sigmas, sigma_next, epsilons)` is what a step adds to x; `sigmas` and `epsilons` are newest first."""

# the coefficients of epsilon, newest first, and their denominator, for steps of equal length (Liu et al. 2022, Eq. 12)
_EQUAL_STEPS = (((1,), 1), ((3, -1), 2), ((23, -16, 5), 12), ((55, -59, 37, -9), 24))


def sample_lms(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, order: int = 4) -> Tensor:
    """The linear multistep method, through the derivatives of the last steps.

    k-diffusion's `lms`: it integrates the polynomial through the last `order` derivatives. One call of `denoise` a step for any
    `order`. The first steps have fewer derivatives, so that the whole converges with second order: the error of the first step,
    Euler's, remains. A step to noise level 0 ends at the estimate, as in ComfyUI; k-diffusion extrapolates there, too.
    Raises ValueError unless the order is between 1 and 4.
    """
    require_order("lms", "order", order)

    def increment(sigmas: Sequence[float], sigma_next: float, epsilons: Sequence[Tensor]) -> Tensor:
        return _linear_combination(adams_bashforth_coefficients(sigmas, sigma_next), epsilons)

    return _multistep(denoise, x, sigmas, on_step=on_step, order=order, increment=increment)


def sample_ipndm(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, max_order: int = 4
) -> Tensor:
    """Improved PNDM: Adams-Bashforth for steps of equal length (Zhang & Chen 2022).

    It uses the coefficients of equally long steps for any schedule. One call of `denoise` a step; the first steps have a lower
    order, and a step to noise level 0 ends at the estimate. As steps in sigma are seldom equally long, it converges with second
    order at most; `ipndm_v` and `lms` take the lengths into account. Raises ValueError unless `max_order` is between 1 and 4.
    """
    require_order("ipndm", "max_order", max_order)

    def increment(sigmas: Sequence[float], sigma_next: float, epsilons: Sequence[Tensor]) -> Tensor:
        coefficients, denominator = _EQUAL_STEPS[len(epsilons) - 1]
        return _linear_combination(coefficients, epsilons) * (sigma_next - sigmas[0]) / denominator

    return _multistep(denoise, x, sigmas, on_step=on_step, order=max_order, increment=increment)


def sample_ipndm_v(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, max_order: int = 4
) -> Tensor:
    """`ipndm` for steps of varying length (Zhou et al. 2023).

    The coefficients are those of the published code, that of AMED-Solver. Up to second order they are those of `lms`. From the
    third on, that code has a misplaced bracket, a wrong sign and a wrong ratio, and ComfyUI has the same. It still converges, a
    little more slowly. One call of `denoise` a step; the first steps have a lower order, and a step to noise level 0 ends at the
    estimate. Raises ValueError unless `max_order` is between 1 and 4.
    """
    require_order("ipndm_v", "max_order", max_order)

    def increment(sigmas: Sequence[float], sigma_next: float, epsilons: Sequence[Tensor]) -> Tensor:
        return _linear_combination(_published_coefficients(sigmas, sigma_next), epsilons) * (sigma_next - sigmas[0])

    return _multistep(denoise, x, sigmas, on_step=on_step, order=max_order, increment=increment)


def sample_plms(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Pseudo linear multistep (Liu et al. 2022, Eq. 12).

    "Pseudo Numerical Methods for Diffusion Models on Manifolds". It differs from `ipndm` in two steps. The first one is a step of
    the improved Euler method, which calls `denoise` a second time, at its end, as in the released PLMS sampler of Rombach et al.
    2022; the paper begins with Runge-Kutta steps. The step to noise level 0 is extrapolated as the others are. All other steps
    take one call of `denoise`. The paper's transfer function, Eq. 9, is a step along dx/dsigma: see `ddim`.
    """
    epsilons: list[Tensor] = []
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        epsilons = [(x - denoised) / sigma, *epsilons[:3]]
        if i == 0 and sigma_next > 0:
            x_euler = x + epsilons[0] * (sigma_next - sigma)
            epsilon = (epsilons[0] + (x_euler - denoise(x_euler, sigma_next)) / sigma_next) / 2
        else:
            coefficients, denominator = _EQUAL_STEPS[len(epsilons) - 1]
            epsilon = _linear_combination(coefficients, epsilons) / denominator
        x = x + epsilon * (sigma_next - sigma)
        on_step(i, x, denoised)
    return x


def _multistep(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, on_step: OnStep, order: int, increment: Increment) -> Tensor:
    """A multistep method with up to `order` derivatives; a step to noise level 0 ends at the estimate."""
    levels = sigmas.tolist()
    epsilons: list[Tensor] = []
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise(x, sigma)
        epsilons = [(x - denoised) / sigma, *epsilons[: order - 1]]
        x = x + increment(levels[i::-1][: len(epsilons)], sigma_next, epsilons) if sigma_next > 0 else denoised
        on_step(i, x, denoised)
    return x


def _linear_combination(coefficients: Sequence[float], epsilons: Sequence[Tensor]) -> Tensor:
    first, *others = (epsilon * coefficient for epsilon, coefficient in zip(epsilons, coefficients, strict=True))
    return sum(others, start=first)


def _published_coefficients(sigmas: Sequence[float], sigma_next: float) -> list[float]:
    """AMED-Solver's coefficients of epsilon for a step of length 1, from its divided differences up to the third."""
    h, *previous = (late - early for late, early in pairwise([sigma_next, *sigmas]))
    coefficients = [1.0, 0.0, 0.0, 0.0]
    if len(previous) > 0:
        h1 = previous[0]
        coefficients[0] += h / (2 * h1)
        coefficients[1] -= h / (2 * h1)
    if len(previous) > 1:
        h2 = previous[1]
        a = h1 / h2
        second = (1 - h**2 / (3 * h1 * (h1 + h2))) / 2  # correct: (1 - h / (3 * (h + h1))) / 2 * h * (h + h1) / (h1 * (h1 + h2))
        coefficients[0] += second
        coefficients[1] -= (1 + a) * second
        coefficients[2] += a * second
    if len(previous) > 2:
        h3 = previous[2]
        b = h1 * (h1 + h2) / (h2 * (h2 + h3))
        third = (1 - h / (3 * (h + h1))) / 2 + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))  # correct: the difference
        third *= h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3))
        coefficients[0] += third
        coefficients[1] -= (1 + a + b) * third
        coefficients[2] += (a + b * (1 + h2 / h3)) * third
        coefficients[3] -= b * a * third  # correct: b * h2 / h3
    return coefficients[: len(sigmas)]


SAMPLERS = {
    "lms": SamplerSpec(
        sample_lms,
        order=2,
        paper="Katherine Crowson's k-diffusion",
        ranges={"order": ORDER_RANGE},
        aliases=("LMS", "LMSDiscreteScheduler"),
    ),
    "ipndm": SamplerSpec(
        sample_ipndm,
        order=2,
        paper="Zhang & Chen 2022, arXiv:2204.13902",
        ranges={"max_order": ORDER_RANGE},
        aliases=("IPNDM", "IPNDMScheduler"),
    ),
    "ipndm_v": SamplerSpec(
        sample_ipndm_v, order=2, paper="Zhou et al. 2023, arXiv:2312.00094", ranges={"max_order": ORDER_RANGE}, aliases=("IPNDM_V",)
    ),
    "plms": SamplerSpec(sample_plms, order=2, paper="Liu et al. 2022, arXiv:2202.09778", aliases=("PLMS", "PNDMScheduler")),
}
