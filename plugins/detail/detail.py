"""The sampler detail: DPM++ 2M that tells the network of less noise than there is, so that it paints more."""

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
    """DPM-Solver++(2M) whose network is told less noise midway (Detail Daemon).

    In the middle of the run, that is; people know it as lying sigma, too.
    A network that expects less noise than it sees takes a part of the noise for picture, and elaborates it in the steps that
    follow. Where the step at the part p of the run (0 the first, 1 the last) has noise level sigma, the network hears
    sigma * (1 - amount * sin^2(pi * (p - start) / (end - start))) between `start` and `end`, elsewhere the truth. An `amount` below
    0 makes pictures plainer, 0 is `dpmpp_2m`. One call of `denoise` a step.
    Raises ValueError unless -1 < amount < 1 and 0 <= start < end <= 1.
    """
    if not -1 < amount < 1:
        raise ValueError(f"sampler detail: expected amount between -1 and 1, found {amount}; 0.05 to 0.25 are usual")
    if not 0 <= start < end <= 1:
        raise ValueError(
            f"sampler detail: expected 0 <= start < end <= 1, found start {start} and end {end}; they are parts of the run"
        )
    levels = sigmas.tolist()[:-1]
    told = {}
    for i, sigma in enumerate(levels):
        inside = min(max((i / max(1, len(levels) - 1) - start) / (end - start), 0), 1)
        told[sigma] = sigma * (1 - amount * math.sin(math.pi * inside) ** 2)
    return sample_dpmpp_2m(_Shifted(denoise, told), x, sigmas, noise=noise, on_step=on_step)


class _Shifted:
    """A denoiser that passes on other noise levels than it receives."""

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
