"""Adams-Bashforth methods: a step goes along what the slopes of the last few foretell."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.multistep import ORDERS, adams_weights, require_order
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

# what the slopes count, newest first, where all steps are of one length (Liu et al. 2022, Eq. 12)
_EQUAL_STEPS = (((1,), 1), ((3, -1), 2), ((23, -16, 5), 12), ((55, -59, 37, -9), 24))


def sample_lms(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, order: int = 4) -> Tensor:
    """The linear multistep method, through the slopes of the last steps.

    k-diffusion's `lms`: the integral of the polynomial through them.
    One call of `denoise` a step, whatever the `order`: the number of slopes, of which the first steps have fewer. They make it one
    of second order in the limit, Euler's first step being what remains. A step to noise level 0 ends at the estimate, as in
    ComfyUI; k-diffusion extrapolates there, too.
    Raises ValueError unless the order is between 1 and 4.
    """
    require_order("lms", "order", order)

    def move(levels: Sequence[float], sigma_next: float, slopes: Sequence[Tensor]) -> Tensor:
        return _combined(adams_weights(levels, sigma_next), slopes)

    return _walk(denoise, x, sigmas, on_step, order, move)


def sample_ipndm(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, max_order: int = 4
) -> Tensor:
    """Improved PNDM: Adams-Bashforth for steps of one length (Zhang & Chen 2022).

    The weights are those of steps that are equally long, whatever the schedule.
    One call of `denoise` a step; the first steps are of lower order, that to noise level 0 ends at the estimate. As the
    steps in sigma seldom are of one length, no more than second order is had; `ipndm_v` and `lms` heed the length.
    Raises ValueError unless `max_order` is between 1 and 4.
    """
    require_order("ipndm", "max_order", max_order)

    def move(levels: Sequence[float], sigma_next: float, slopes: Sequence[Tensor]) -> Tensor:
        weights, parts = _EQUAL_STEPS[len(slopes) - 1]
        return _combined(weights, slopes) * (sigma_next - levels[0]) / parts

    return _walk(denoise, x, sigmas, on_step, max_order, move)


def sample_ipndm_v(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, max_order: int = 4
) -> Tensor:
    """`ipndm` for steps of varying length (Zhou et al. 2023).

    With the weights as they were published, in the code of AMED-Solver.
    They are not quite those of `lms`, which this is up to second order: from the third on, a bracket, a sign and a ratio went wrong
    in that code, and ComfyUI's is the same. It converges none the less, a little more slowly.
    One call of `denoise` a step; the first steps are of lower order, that to noise level 0 ends at the estimate.
    Raises ValueError unless `max_order` is between 1 and 4.
    """
    require_order("ipndm_v", "max_order", max_order)

    def move(levels: Sequence[float], sigma_next: float, slopes: Sequence[Tensor]) -> Tensor:
        return _combined(_published_weights(levels, sigma_next), slopes) * (sigma_next - levels[0])

    return _walk(denoise, x, sigmas, on_step, max_order, move)


def sample_plms(denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep) -> Tensor:
    """Pseudo linear multistep (Liu et al. 2022, Eq. 12).

    "Pseudo Numerical Methods for Diffusion Models".
    It is `ipndm` but for two things: the first step is one of the paper's improved Euler kind, which calls `denoise` a second
    time, where it lands (Rombach et al. 2022, the released PLMS sampler; the paper begins with Runge-Kutta steps); and the
    step to noise level 0 is extrapolated as the others are. One call of `denoise` in every other step.
    The paper's transfer, Eq. 9, is a step along dx/dsigma: see `ddim`.
    """
    slopes: list[Tensor] = []
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        slopes = [(x - denoised) / sigma, *slopes[:3]]
        if i == 0 and sigma_next > 0:
            x_euler = x + slopes[0] * (sigma_next - sigma)
            slope = (slopes[0] + (x_euler - denoise(x_euler, sigma_next)) / sigma_next) / 2
        else:
            weights, parts = _EQUAL_STEPS[len(slopes) - 1]
            slope = _combined(weights, slopes) / parts
        x = x + slope * (sigma_next - sigma)
        on_step(i, x, denoised)
    return x


def _walk(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    on_step: OnStep,
    order: int,
    move: Callable[[Sequence[float], float, Sequence[Tensor]], Tensor],
) -> Tensor:
    """Steps of `move(levels, sigma_next, slopes)` along up to `order` slopes and their levels, newest first."""
    levels = sigmas.tolist()
    slopes: list[Tensor] = []
    for i, (sigma, sigma_next) in enumerate(pairwise(levels)):
        denoised = denoise(x, sigma)
        slopes = [(x - denoised) / sigma, *slopes[: order - 1]]
        x = x + move(levels[i::-1][: len(slopes)], sigma_next, slopes) if sigma_next > 0 else denoised
        on_step(i, x, denoised)
    return x


def _combined(weights: Sequence[float], slopes: Sequence[Tensor]) -> Tensor:
    first, *others = (slope * weight for slope, weight in zip(slopes, weights, strict=True))
    return sum(others, start=first)


def _published_weights(levels: Sequence[float], sigma_next: float) -> list[float]:
    """Those of the divided differences of the slopes, up to the third, times what each difference counts."""
    h, *before = (late - early for late, early in pairwise([sigma_next, *levels]))
    weights = [1.0, 0.0, 0.0, 0.0]
    if len(before) > 0:
        h1 = before[0]
        weights[0] += h / (2 * h1)
        weights[1] -= h / (2 * h1)
    if len(before) > 1:
        h2 = before[1]
        a = h1 / h2
        second = (1 - h**2 / (3 * h1 * (h1 + h2))) / 2  # rightly (1 - h / (3 * (h + h1))) / 2 * h * (h + h1) / (h1 * (h1 + h2))
        weights[0] += second
        weights[1] -= (1 + a) * second
        weights[2] += a * second
    if len(before) > 2:
        h3 = before[2]
        b = h1 * (h1 + h2) / (h2 * (h2 + h3))
        third = (1 - h / (3 * (h + h1))) / 2 + (1 - h / (2 * (h + h1))) * h / (6 * (h + h1 + h2))  # rightly the difference
        third *= h * (h + h1) * (h + h1 + h2) / (h1 * (h1 + h2) * (h1 + h2 + h3))
        weights[0] += third
        weights[1] -= (1 + a + b) * third
        weights[2] += (a + b * (1 + h2 / h3)) * third
        weights[3] -= b * a * third  # rightly b * h2 / h3
    return weights[: len(levels)]


SAMPLERS = {
    "lms": SamplerSpec(
        sample_lms,
        order=2,
        paper="Katherine Crowson's k-diffusion",
        ranges={"order": ORDERS},
        aliases=("LMS", "LMSDiscreteScheduler"),
    ),
    "ipndm": SamplerSpec(
        sample_ipndm,
        order=2,
        paper="Zhang & Chen 2022, arXiv:2204.13902",
        ranges={"max_order": ORDERS},
        aliases=("IPNDM", "IPNDMScheduler"),
    ),
    "ipndm_v": SamplerSpec(
        sample_ipndm_v, order=2, paper="Zhou et al. 2023, arXiv:2312.00094", ranges={"max_order": ORDERS}, aliases=("IPNDM_V",)
    ),
    "plms": SamplerSpec(sample_plms, order=2, paper="Liu et al. 2022, arXiv:2202.09778", aliases=("PLMS", "PNDMScheduler")),
}
