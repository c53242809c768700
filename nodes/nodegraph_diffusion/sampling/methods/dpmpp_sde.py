"""DPM-Solver++ for the diffusion SDE, multistep: one call a step, with the noise of a Brownian path (Lu et al. 2022)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.denoising import Denoiser
from nodegraph_diffusion.sampling.methods.exponential import SDENoise, exponential_euler_step, phi_2
from nodegraph_diffusion.sampling.options import NOISE_RANGES, require_at_least_0
from nodegraph_diffusion.sampling.protocols import NoiseSource, OnStep
from nodegraph_diffusion.sampling.spec import SamplerSpec

if TYPE_CHECKING:
    from torch import Tensor

SolverType = Literal["midpoint", "heun"]


def sample_dpmpp_2m_sde(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    eta: float = 1.0,
    s_noise: float = 1.0,
    solver_type: SolverType = "midpoint",
) -> Tensor:
    """SDE-DPM-Solver++(2M) (Lu et al. 2022, App. A.2, Alg. 4): `dpmpp_2m` for the SDE.

    The estimate is extrapolated linearly from the last two: `midpoint` uses its value in the middle of the step, `heun` integrates
    the line exactly. The first step is of first order; a step to noise level 0 ends at the estimate. `eta` is the share of the
    reverse SDE's noise; 0 is deterministic and of second order (`midpoint`: `dpmpp_2m`). `s_noise` scales the noise. Raises
    ValueError if eta or s_noise is negative, or for another solver_type.
    """
    require_at_least_0("dpmpp_2m_sde", eta=eta, s_noise=s_noise)
    if solver_type not in ("midpoint", "heun"):
        raise ValueError(f"sampler dpmpp_2m_sde: expected solver_type 'midpoint' or 'heun', found {solver_type!r}")
    denoised_previous: Tensor | None = None
    h_previous = math.inf
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            x = denoised
        else:
            h = math.log(sigma / sigma_next)  # lambda_next - lambda
            h_eta = h * (1 + eta)
            x = exponential_euler_step(x, denoised, sigma, sigma_next, eta=eta)
            if denoised_previous is not None:
                d_1 = (denoised - denoised_previous) * (h / h_previous)  # the change over a step of length h
                x = x + d_1 * (-math.expm1(-h_eta) / 2 if solver_type == "midpoint" else phi_2(h_eta))
            x = x + SDENoise(noise, sigma, eta, s_noise).at(sigma_next)
            denoised_previous, h_previous = denoised, h
        on_step(i, x, denoised)
    return x


def sample_dpmpp_2m_sde_heun(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """`dpmpp_2m_sde` with the solver type `heun`.

    This is ComfyUI's name for it. Raises ValueError if eta or s_noise is negative.
    """
    return sample_dpmpp_2m_sde(denoise, x, sigmas, noise=noise, on_step=on_step, eta=eta, s_noise=s_noise, solver_type="heun")


def sample_dpmpp_3m_sde(
    denoise: Denoiser, x: Tensor, sigmas: Tensor, *, noise: NoiseSource, on_step: OnStep, eta: float = 1.0, s_noise: float = 1.0
) -> Tensor:
    """DPM-Solver++(3M) SDE, over the last three estimates.

    k-diffusion's multistep solver, after Lu et al. 2022, for the SDE. It integrates a parabola in lambda through the last three
    estimates; the first step has one, the second two. As in k-diffusion, the second-order term has half the coefficient of the
    exact integral: without noise the order is 2, with a smaller error than `dpmpp_2m_sde`. A step to noise level 0 ends at the
    estimate. `eta` is the share of the reverse SDE's noise; 0 is deterministic. `s_noise` scales the noise. Raises ValueError if
    either is negative.
    """
    require_at_least_0("dpmpp_3m_sde", eta=eta, s_noise=s_noise)
    previous: list[tuple[Tensor, float]] = []  # (estimate, h) of the last two steps, newest first
    for i, (sigma, sigma_next) in enumerate(pairwise(sigmas.tolist())):
        denoised = denoise(x, sigma)
        if sigma_next == 0:
            x = denoised
        else:
            h = math.log(sigma / sigma_next)
            x = exponential_euler_step(x, denoised, sigma, sigma_next, eta=eta)
            x = x + _multistep_correction(denoised, previous, h, h * (1 + eta))
            x = x + SDENoise(noise, sigma, eta, s_noise).at(sigma_next)
            previous = [(denoised, h), *previous[:1]]
        on_step(i, x, denoised)
    return x


def _multistep_correction(denoised: Tensor, previous: list[tuple[Tensor, float]], h: float, h_eta: float) -> Tensor | float:
    """phi_2 D_1 - phi_3 D_2, with the derivatives D_1 and D_2 of the estimate in a step of length `h`, as in k-diffusion."""
    if not previous:
        return 0.0
    (denoised_1, h_1), *earlier = previous
    d_1_0 = (denoised - denoised_1) * (h / h_1)
    if not earlier:
        return d_1_0 * phi_2(h_eta)
    ((denoised_2, h_2),) = earlier
    d_1_1 = (denoised_1 - denoised_2) * (h / h_2)
    d_2 = (d_1_0 - d_1_1) * (h / (h_1 + h_2))
    d_1 = d_1_0 + d_2 * (h_1 / h)
    phi_3 = phi_2(h_eta) / h_eta - 0.5
    return d_1 * phi_2(h_eta) - d_2 * phi_3


SAMPLERS = {
    "dpmpp_2m_sde": SamplerSpec(
        sample_dpmpp_2m_sde,
        stochastic=True,
        paper="Lu et al. 2022, arXiv:2211.01095, App. A",
        noise="brownian",
        ranges=NOISE_RANGES,
        aliases=("dpmpp_2m_sde_gpu", "DPM++ 2M SDE"),
    ),
    "dpmpp_2m_sde_heun": SamplerSpec(
        sample_dpmpp_2m_sde_heun,
        stochastic=True,
        paper="Lu et al. 2022, arXiv:2211.01095, App. A",
        noise="brownian",
        ranges=NOISE_RANGES,
        aliases=("dpmpp_2m_sde_heun_gpu", "DPM++ 2M SDE Heun"),
    ),
    "dpmpp_3m_sde": SamplerSpec(
        sample_dpmpp_3m_sde,
        stochastic=True,
        paper="Lu et al. 2022, arXiv:2211.01095",
        noise="brownian",
        ranges=NOISE_RANGES,
        aliases=("dpmpp_3m_sde_gpu", "DPM++ 3M SDE"),
    ),
}
