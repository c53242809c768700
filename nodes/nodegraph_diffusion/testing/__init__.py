"""The test kit for samplers, schedules and guidance: checks of what each must do, and orders of convergence.

    import pytest
    from nodegraph_diffusion.testing import SAMPLER_CHECKS

    @pytest.mark.parametrize("check", SAMPLER_CHECKS)
    def test_my_sampler(check):
        check(sample_mine)

A failed check raises AssertionError with what was expected and found. `python -m nodegraph_diffusion.testing` prints the order of
every sampler.
"""

from __future__ import annotations

from nodegraph_diffusion.testing.convergence import (
    Measured,
    convergence_order,
    measurable,
    measured,
    measured_orders,
    sampling_error,
)
from nodegraph_diffusion.testing.guidance import GUIDANCE_CHECKS, check_guidance
from nodegraph_diffusion.testing.registered import registered
from nodegraph_diffusion.testing.samplers import (
    SAMPLER_CHECKS,
    check_batch,
    check_declared,
    check_dtypes,
    check_exact,
    check_order,
    check_repeatable,
    check_sampler,
    check_steps,
)
from nodegraph_diffusion.testing.schedules import SCHEDULE_CHECKS, check_schedule
from nodegraph_diffusion.testing.toys import SCHEDULE, GaussianDenoiser, TwistedDenoiser, TwoSidedDenoiser, even_sigmas

__all__ = [
    "GUIDANCE_CHECKS",
    "SAMPLER_CHECKS",
    "SCHEDULE",
    "SCHEDULE_CHECKS",
    "GaussianDenoiser",
    "Measured",
    "TwistedDenoiser",
    "TwoSidedDenoiser",
    "check_batch",
    "check_declared",
    "check_dtypes",
    "check_exact",
    "check_guidance",
    "check_order",
    "check_repeatable",
    "check_sampler",
    "check_schedule",
    "check_steps",
    "convergence_order",
    "even_sigmas",
    "measurable",
    "measured",
    "measured_orders",
    "registered",
    "sampling_error",
]
