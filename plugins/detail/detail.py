"""The sampler detail: DPM++ 2M that passes the network a lower noise level, so that pictures get more detail."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from nodegraph import hookimpl
from nodegraph_diffusion.sampling.methods.dpmpp import sample_dpmpp_2m

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from nodegraph_diffusion.denoising import Denoiser
    from nodegraph_diffusion.sampling import NoiseSource, OnStep


def sample_detail(
    denoise: Denoiser,
    x: Tensor,
    sigmas: Tensor,
    *,
    noise: NoiseSource,
    on_step: OnStep,
    amount: float = 0.1,
    start: float = 0.2,
    end: float = 0.8,
) -> Tensor:
    """DPM-Solver++(2M) with a lowered sigma for the network (Detail Daemon).

    Also known as lying sigma. A network that expects less noise than there is takes some of the noise for a part of the picture,
    and works it out in the following steps. At the fraction p of the run (0 is the first step, 1 the last), between `start` and
    `end`, the network receives sigma * (1 - amount * sin^2(pi * (p - start) / (end - start))); elsewhere it receives sigma. An
    `amount` below 0 makes pictures plainer; 0 is `dpmpp_2m`. One call of `denoise` a step. Raises ValueError unless -1 < amount < 1
    and 0 <= start < end <= 1.
    """
    if not -1 < amount < 1:
        raise ValueError(f"sampler detail: expected amount between -1 and 1, found {amount}; 0.05 to 0.25 are usual")
    if not 0 <= start < end <= 1:
        raise ValueError(
            f"sampler detail: expected 0 <= start < end <= 1, found start {start} and end {end}; they are fractions of the run"
        )
    levels = sigmas.tolist()[:-1]
    lowered = {}
    for i, sigma in enumerate(levels):
        progress = min(max((i / max(1, len(levels) - 1) - start) / (end - start), 0), 1)
        lowered[sigma] = sigma * (1 - amount * math.sin(math.pi * progress) ** 2)
    return sample_dpmpp_2m(_LoweredSigma(denoise, lowered), x, sigmas, noise=noise, on_step=on_step)


class _LoweredSigma:
    """A denoiser that passes other noise levels to `denoise` than it receives."""

    def __init__(self, denoise: Denoiser, levels: Mapping[float, float]) -> None:
        self.denoise, self.levels = denoise, levels
        self.noise_schedule = denoise.noise_schedule

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        return self.denoise(x, self.levels[float(sigma)])


@hookimpl
def register_samplers(register):
    register(
        "detail",
        sample_detail,
        evaluations_per_step=1,
        paper="after Lu et al. 2022, arXiv:2211.01095",
        ranges={"amount": (-0.999, 0.999), "start": (0, 1), "end": (0, 1)},
    )
