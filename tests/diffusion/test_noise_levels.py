"""Lists of noise levels are checked, split and flipped."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph_diffusion.sampling import SAMPLERS
from nodegraph_diffusion.schedules import SCHEDULES, explicit_sigmas, flip_sigmas, split_sigmas
from tests.support.toy_denoisers import SCHEDULE, GaussianDenoiser, TwistedDenoiser

LEVELS = st.lists(st.floats(2**-10, 1000, width=32), min_size=2, max_size=30, unique=True).map(
    lambda levels: sorted(levels, reverse=True)
)
START = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def walk(denoise, x, sigmas, name="euler"):
    return SAMPLERS[name](denoise, x, sigmas, noise=None, on_step=lambda i, x, denoised: None)


@settings(deadline=None)
@given(levels=LEVELS, to_zero=st.booleans())
def test_falling_list_is_accepted(levels, to_zero):
    values = [*levels, 0] if to_zero else levels
    sigmas = explicit_sigmas(values)
    assert sigmas.dtype == torch.float32
    assert sigmas.tolist() == values


def test_integers_and_tuples_are_accepted():
    assert explicit_sigmas((14, 2, 0)).tolist() == [14.0, 2.0, 0.0]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"at least two noise levels.*found \[\]"),
        ([14.6], r"at least two noise levels.*found \[14.6\]"),
        ([14.6, math.nan, 0.0], "finite number as level 1, found nan"),
        ([math.inf, 1.0], "finite number as level 0, found inf"),
        ([14.6, "2", 0.0], "finite number as level 1, found '2'"),
        ([2, True, 0], "finite number as level 1, found True"),
        ([1e39, 1.0], "within float32's range as level 0 of 2, found 1e[+]39"),
        ([10**400, 1.0], "within float32's range as level 0 of 2, found 10+"),
        ([14.6, -1.0], "positive number, or 0 at the end, as level 1 of 2, found -1.0"),
        ([14.6, 0.0, 0.0], "positive number, or 0 at the end, as level 1 of 3, found 0.0"),
        ([14.6, 1e-50, 0.0], "positive number, or 0 at the end, as level 1 of 3, found 1e-50"),
        ([1.0, 2.0, 0.0], "below the one before it, found level 1, 2.0, after 1.0; sort them"),
        ([2.0, 2.0, 0.0], "found level 1, 2.0, after 2.0"),
        ([1.00000001, 1.0, 0.0], "found level 1, 1.0, after 1.00000001"),
    ],
)
def test_other_lists_are_refused(values, message):
    with pytest.raises(ValueError, match=f"sigmas: expected.*{message}"):
        explicit_sigmas(values)


@settings(deadline=None)
@given(levels=LEVELS, data=st.data())
def test_split_parts_share_one_level(levels, data):
    sigmas = explicit_sigmas([*levels, 0.0])
    step = data.draw(st.integers(0, len(levels)))
    high, low = split_sigmas(sigmas, step)
    assert len(high) == step + 1
    assert high[-1] == low[0]
    assert torch.equal(torch.cat([high, low[1:]]), sigmas)


@pytest.mark.parametrize("step", [-1, 11])
def test_split_beyond_the_end_is_refused(step):
    with pytest.raises(ValueError, match=f"a step between 0 and 10, the number of steps, found {step}"):
        split_sigmas(SCHEDULES["karras"](SCHEDULE, 10), step)


def test_sampling_the_parts_equals_sampling_the_whole():
    sigmas = SCHEDULES["karras"](SCHEDULE, 10)
    high, low = split_sigmas(sigmas, 4)
    whole = walk(TwistedDenoiser(), START * SCHEDULE.sigma_max, sigmas)
    parts = walk(TwistedDenoiser(), walk(TwistedDenoiser(), START * SCHEDULE.sigma_max, high), low)
    assert torch.equal(whole, parts)


def test_flipped_list_starts_above_zero():
    sigmas = explicit_sigmas([14.0, 2.0, 0.5, 0.0])
    assert flip_sigmas(sigmas).tolist() == pytest.approx([1e-4, 0.5, 2.0, 14.0])
    assert sigmas.tolist() == [14.0, 2.0, 0.5, 0.0]
    assert flip_sigmas(sigmas[:-1]).tolist() == [0.5, 2.0, 14.0]


@settings(deadline=None)
@given(levels=LEVELS)
def test_flipping_twice_gives_the_list_back(levels):
    sigmas = explicit_sigmas(levels)
    assert torch.equal(flip_sigmas(flip_sigmas(sigmas)), sigmas)


def test_flipped_list_rises():
    with pytest.raises(ValueError, match=r"smallest level above 0\.0001, which replaces 0, found 5e-05; leave"):
        flip_sigmas(explicit_sigmas([1.0, 5e-5, 0.0]))


def test_deterministic_sampler_inverts_along_flipped_levels():
    """As the probability flow does: to the noise that gives the picture."""
    denoiser, sigmas = GaussianDenoiser(), SCHEDULES["karras"](SCHEDULE, 400)
    noisy = walk(denoiser, START, flip_sigmas(sigmas), name="heun")
    torch.testing.assert_close(noisy, denoiser.solution(START, 1e-4, SCHEDULE.sigma_max), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(walk(denoiser, noisy, sigmas, name="heun"), START, rtol=0, atol=0.01)  # its last step is Euler's
