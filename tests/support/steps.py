"""The steps that a sampler takes on the twisted denoiser, over schedules of many kinds, to compare with another's."""

from __future__ import annotations

import pytest
import torch

from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedules.continuous import schedule_karras
from nodegraph_diffusion.schedules.timesteps import schedule_normal, schedule_simple
from tests.support.toy_denoisers import SCHEDULE, TwistedDenoiser, no_noise

START = torch.randn(2, 4, 6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
SIGMAS = {
    **{
        f"{name}-{steps}": schedule(SCHEDULE, steps)
        for name, schedule in (("karras", schedule_karras), ("normal", schedule_normal), ("simple", schedule_simple))
        for steps in (1, 2, 3, 4, 5, 20)
    },
    "uneven": torch.tensor([9.0, 8.0, 3.0, 2.9, 0.7, 0.2, 0.0]),
    "ends-early": schedule_karras(SCHEDULE, 12)[:7],
    "begins-late": schedule_normal(SCHEDULE, 12)[6:],
    "one-step-not-to-0": torch.tensor([3.0, 1.0]),
}
every_schedule = pytest.mark.parametrize("sigmas", SIGMAS.values(), ids=SIGMAS)


def our_steps(name, sigmas, noise=no_noise, **options):
    """x after each step on the twisted denoiser, in float64."""
    steps, sigmas = [], sigmas.double()
    x = START * sigmas[0]
    result = SAMPLERS[name](TwistedDenoiser(), x, sigmas, noise=noise, on_step=lambda i, x, denoised: steps.append(x), **options)
    assert result is steps[-1]
    return steps


def assert_same_steps(ours, reference, relative=1e-4):
    assert len(ours) == len(reference)
    for our, theirs in zip(ours, reference, strict=True):
        assert (our - theirs).abs().max() <= relative * theirs.abs().max()
