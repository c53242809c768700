"""Declarations of samplers, schedules and guidance are checked, and their ranges are those that the functions enforce."""

from __future__ import annotations

from typing import Any

import pytest

from nodegraph_diffusion.guidance import GuidanceSpec
from nodegraph_diffusion.options import check_options, check_ranges, options_of
from nodegraph_diffusion.sampling import SAMPLERS, SamplerSpec, sample
from nodegraph_diffusion.schedules import SCHEDULES, ScheduleSpec
from nodegraph_diffusion.testing.toys import SCHEDULE, GaussianDenoiser, even_sigmas, ignore_step, run, start


def walk(name: str, **options: Any) -> object:
    return run(SAMPLERS[name], GaussianDenoiser(), start(), even_sigmas(4).float(), **options)


def space(name: str, **options: Any) -> object:
    return SCHEDULES[name](SCHEDULE, 4, **options)


def look_at(spec: SamplerSpec | ScheduleSpec, **options: Any) -> None:
    """The checks before anything is computed."""
    check_options("sampler", spec, options)
    check_ranges("sampler", spec, spec.ranges, options)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


OPTIONS = [
    pytest.param(function, spec, name, option, id=f"{name}-{option}")
    for function, specs in ((walk, SAMPLERS), (space, SCHEDULES))
    for name, spec in specs.items()
    for option, default in options_of(spec).items()
    if is_number(default) or option in spec.ranges
]


@pytest.mark.parametrize(("function", "spec", "name", "option"), OPTIONS)
def test_refused_values_are_outside_the_declared_range(function, spec, name, option):
    whole = isinstance(options_of(spec)[option], int)
    for value in (-1, 0, 1, 2, 7) if whole else (-1.0, 1.5):
        try:
            function(name, **{option: value})
        except ValueError:
            with pytest.raises(ValueError, match=rf"option '{option}' expected .*, found {value}"):
                look_at(spec, **{option: value})


@pytest.mark.parametrize(("function", "spec", "name", "option"), OPTIONS)
def test_ends_of_a_declared_range_are_accepted(function, spec, name, option):
    together = {"r_1": (1e-3, 0.6), "r_2": (0.4, 0.999), "sde_start": (0.0, 0.8), "sde_end": (0.2, 1.0)}  # depend on each other
    for end in together.get(option, spec.ranges.get(option, ())):
        if end is not None and option not in ("threshold_noise", "pcoeff", "icoeff", "dcoeff", "denoise"):  # these, too
            function(name, **{option: end})


def test_ranges_are_enforced_on_calls():
    def walk_nowhere(denoise, x, sigmas, *, noise, on_step, amount: float = 0.5):
        return x

    spec = SamplerSpec(walk_nowhere, ranges={"amount": (0.1, 0.9)})
    latent = start()
    arguments: dict[str, Any] = {"step_noise": "fresh", "seed": 1, "on_step": ignore_step}
    sample(GaussianDenoiser(), latent, latent, spec, sigmas=even_sigmas(2).float(), options={"amount": 0.9}, **arguments)
    with pytest.raises(ValueError, match=r"sampler walk_nowhere: option 'amount' expected a number from 0\.1 to 0\.9, found 1"):
        sample(GaussianDenoiser(), latent, latent, spec, sigmas=even_sigmas(2).float(), options={"amount": 1}, **arguments)


@pytest.mark.parametrize(
    ("ends", "message"), [((2, None), "of at least 2, found 1"), ((None, 0), "of at most 0, found 1"), ((None, None), None)]
)
def test_range_can_be_open(ends, message):
    ranges = {"order": ends}
    if message is None:
        check_ranges("sampler", SAMPLERS["lms"], ranges, {"order": 1})
    else:
        with pytest.raises(ValueError, match=f"sampler sample_lms: option 'order' expected a number {message}"):
            check_ranges("sampler", SAMPLERS["lms"], ranges, {"order": 1})
    check_ranges("sampler", SAMPLERS["lms"], ranges, {"order": None})  # a range does not check the kind


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        ({"order": "two"}, "expected order to be a whole number of at least 1, or None, found 'two'"),
        ({"order": 0}, "expected order to be a whole number of at least 1, or None, found 0"),
        ({"evaluations_per_step": -1}, "expected evaluations_per_step to be a whole number"),
        ({"evaluations_per_step": True}, "expected evaluations_per_step to be a whole number"),
        ({"noise": "pink"}, "expected noise 'independent' or 'brownian', found 'pink'"),
        ({"ranges": {"etta": (0, 1)}}, "expected ranges of options, found one for 'etta'; it has eta"),
    ],
)
def test_sampler_declarations_are_checked(declared, message):
    with pytest.raises(ValueError, match=message):
        SamplerSpec(SAMPLERS["ddim"].function, **declared)


@pytest.mark.parametrize("spec", [ScheduleSpec, GuidanceSpec])
def test_range_needs_an_existing_option(spec):
    def nothing(schedule, steps=0):
        return None

    with pytest.raises(ValueError, match="expected ranges of options, found one for 'rho'; it has none"):
        spec(nothing, ranges={"rho": (0, 1)})
