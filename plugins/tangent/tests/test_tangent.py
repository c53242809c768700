"""tangent passes the checks of every schedule, and rotates by the same angle in each step."""

from __future__ import annotations

import functools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import tangent
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.schedules import SCHEDULES
from nodegraph_diffusion.testing import SCHEDULE_CHECKS, registered

SCHEDULE = registered(tangent, "schedules")["tangent"]


@pytest.mark.parametrize("shift", [1.0, 0.1, 5.0])
@pytest.mark.parametrize("check", SCHEDULE_CHECKS, ids=lambda check: check.__name__)
def test_schedule_passes_the_checks(check, shift):
    check(functools.partial(SCHEDULE, shift=shift))


@settings(deadline=None)
@given(steps=st.integers(3, 100), shift=st.floats(0.1, 10))
def test_each_step_has_the_same_angle(steps, shift):
    levels = SCHEDULE(NoiseSchedule(), steps, shift=shift)[:-1].double()
    angles = torch.atan(levels / shift).diff()
    assert float(angles.std()) < 1e-5
    assert float(levels[0]) == pytest.approx(NoiseSchedule().sigma_max, rel=1e-6)
    assert float(levels[-1]) == pytest.approx(NoiseSchedule().sigma_min, rel=1e-5)


@pytest.mark.parametrize("steps", [2, 10, 33])
def test_shift_1_is_kl_optimal(steps):
    """Sabour et al. 2024, Theorem 3.1, derive the same spacing from a bound on the error."""
    assert torch.allclose(SCHEDULE(NoiseSchedule(), steps), SCHEDULES["kl_optimal"](NoiseSchedule(), steps), rtol=1e-5)


def test_angle_equals_that_of_velocity_prediction():
    """The angle is that of the variance-preserving circle: tan(phi) = sqrt(1 - acp) / sqrt(acp)."""
    acp = 1 / (1 + SCHEDULE(NoiseSchedule(), 9)[:-1].double() ** 2)
    angles = torch.atan2((1 - acp).sqrt(), acp.sqrt())
    assert torch.allclose(angles.diff(), angles.diff()[0].expand(8), atol=1e-6)


def test_larger_shift_has_more_steps_at_high_levels():
    above = [int((SCHEDULE(NoiseSchedule(), 20, shift=shift) > 1).sum()) for shift in (0.3, 1.0, 3.0)]
    assert above == sorted(set(above))


@pytest.mark.parametrize(("steps", "options"), [(0, {}), (8, {"shift": 0.0}), (8, {"shift": math.inf})])
def test_options_out_of_range_are_refused(steps, options):
    with pytest.raises(ValueError, match="schedule tangent: expected"):
        SCHEDULE(NoiseSchedule(), steps, **options)
