"""Sampling schedules always fall to 0 or refuse with a reason, and their declarations are correct."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.options import options_of
from nodegraph_diffusion.sampling import sigmas_for
from nodegraph_diffusion.schedules import SCHEDULES, ScheduleSpec

DOCS = Path(__file__).parents[2] / "docs"
SD1 = NoiseSchedule()
NO_SIGNAL = NoiseSchedule(prediction="v", zero_snr=True)  # at the last training step
NO_NOISE = NoiseSchedule(beta_start=1e-12)  # at the first one
THEIR_OWN_LEVELS = ("align_your_steps", "vp")  # independent of the model's levels


def levels(name: str, steps: int, schedule: NoiseSchedule = SD1, **options: object) -> torch.Tensor:
    return SCHEDULES[name](schedule, steps, **options)


def assert_falls_to_zero(name: str, sigmas: torch.Tensor, schedule: NoiseSchedule) -> None:
    assert sigmas.dtype == torch.float32
    assert sigmas.device.type == "cpu"
    assert len(sigmas) >= 2
    assert sigmas.isfinite().all()
    assert (sigmas.diff() < 0).all()
    assert sigmas[-1] == 0
    if name not in THEIR_OWN_LEVELS:  # but for float32's rounding, whose tangent misses a large level by as much as it is large
        assert sigmas[0] <= schedule.sigma_max * (1 + 3e-6 + (1e-7 * schedule.sigma_max if name == "kl_optimal" else 0))


def most_steps(name: str, schedule: NoiseSchedule) -> float:
    """How many steps a schedule has on a model."""
    if name == "turbo":
        return 10 if schedule.steps >= 10 else 0
    return {"simple": schedule.steps, "trailing": schedule.steps, "leading": schedule.steps - 1}.get(name, math.inf)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("schedule", [SD1, NO_SIGNAL, NO_NOISE, NoiseSchedule(steps=100)], ids=["sd1", "signal", "noise", "short"])
@settings(max_examples=25, deadline=None)
@example(steps=1)
@example(steps=2)
@example(steps=1000)
@given(steps=st.integers(1, 1000))
def test_schedules_fall_to_zero_or_refuse(name, schedule, steps):
    if steps > most_steps(name, schedule):
        with pytest.raises(ValueError, match=f"schedule {name}: expected .* found {steps};"):
            levels(name, steps, schedule)
    else:
        assert_falls_to_zero(name, levels(name, steps, schedule), schedule)


SCHEDULE = st.builds(
    NoiseSchedule,
    steps=st.integers(2, 1500),
    beta_start=st.floats(1e-12, 1e-3),
    beta_end=st.floats(2e-3, 0.02),
    prediction=st.sampled_from(["eps", "v"]),
    zero_snr=st.booleans(),
)


@pytest.mark.parametrize("name", SCHEDULES)
@settings(max_examples=25, deadline=None)
@given(schedule=SCHEDULE, steps=st.integers(1, 60))
@example(NoiseSchedule(steps=1499, beta_start=0.001, beta_end=0.015625, zero_snr=True), 4)  # hardly any signal before the last
def test_schedules_fall_to_zero_on_any_model(name, schedule, steps):
    if steps > most_steps(name, schedule):
        with pytest.raises(ValueError, match=f"schedule {name}: expected .* found "):
            levels(name, steps, schedule)
    else:
        assert_falls_to_zero(name, levels(name, steps, schedule), schedule)


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"ddim_uniform", "laplace", "turbo"}))
@pytest.mark.parametrize("steps", [1, 2, 7, 20, 30])
def test_schedules_have_the_requested_steps(name, steps):
    assert len(levels(name, steps)) == steps + 1


@pytest.mark.parametrize("name", sorted(set(SCHEDULES) - {"ddim_uniform", "leading", "vp"}))
@pytest.mark.parametrize("steps", [1, 7])
def test_schedules_start_from_the_largest_level(name, steps):
    assert levels(name, steps)[0].item() == pytest.approx(SD1.sigma_max, rel=2e-6)


def test_names_and_aliases_are_unique():
    names = [name for name, spec in SCHEDULES.items() for name in (name, *spec.aliases)]
    assert len(names) == len(set(names))
    a1111 = {"Automatic", "Uniform", "Karras", "Exponential", "Polyexponential", "SGM Uniform", "KL Optimal", "Align Your Steps"}
    assert a1111 | {"Simple", "Normal", "DDIM", "Beta", "Turbo"} < set(names)


def test_options_are_those_of_the_function():
    assert options_of(SCHEDULES["karras"]) == {"rho": 7.0}
    assert options_of(SCHEDULES["linear_quadratic"]) == {"threshold_noise": 0.025, "linear_steps": None}
    assert options_of(SCHEDULES["align_your_steps"]) == {"model": "sd1"}
    with pytest.raises(ValueError, match="'model' expected one of 'sd1', 'sdxl', 'svd', found 'sd3'"):
        sigmas_for(SCHEDULES["align_your_steps"], SD1, 10, options={"model": "sd3"})


@pytest.mark.parametrize("name", SCHEDULES)
def test_documentation_lists_its_options(name):
    page = (DOCS / "schedules.md").read_text(encoding="utf-8")
    row = next(line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
    options = options_of(SCHEDULES[name])
    assert set(re.findall(r"`(\w+)`", row.split("|")[3])) == set(options)
    for option, default in options.items():
        text = f"{default:g}" if isinstance(default, float) else "n / 2" if default is None else str(default)
        assert f"`{option}` {text}" in row
    assert f">{name}</text>" in (DOCS / "images/schedules.svg").read_text(encoding="utf-8"), "run: python docs/plot_schedules.py"


def schedule_halves(schedule, steps, *, factor: float = 0.5):
    """Each level is a part of the one before."""
    return torch.tensor([schedule.sigma_max * factor**i for i in range(steps)] + [0.0])


def test_plain_function_is_a_schedule():
    assert torch.equal(sigmas_for(schedule_halves, SD1, 3), schedule_halves(SD1, 3))
    assert torch.equal(sigmas_for(schedule_halves, SD1, 3, options={"factor": 0.1}), schedule_halves(SD1, 3, factor=0.1))


def test_declared_schedule_can_be_called_and_described():
    spec = ScheduleSpec(schedule_halves, paper="A 2024", aliases=("Halves", "Half"))
    assert torch.equal(spec(SD1, 3, factor=0.2), schedule_halves(SD1, 3, factor=0.2))
    assert spec.describe() == {"paper": "A 2024"}
    assert spec.aliases == ("Halves", "Half")
    assert spec.__doc__ == "Each level is a part of the one before."
    assert ScheduleSpec(schedule_halves).describe() == {}


@pytest.mark.parametrize(
    ("function", "found"),
    [(lambda schedule: None, "<lambda>(schedule)"), (lambda a, b, c: None, "<lambda>(a, b, c)"), (12, "int")],
)
def test_other_functions_are_refused(function, found):
    for make in (ScheduleSpec, lambda function: sigmas_for(function, SD1, 5)):
        with pytest.raises(ValueError, match=r"expected a function schedule\(noise_schedule, steps, \*\*options\)") as raised:
            make(function)
        assert f"found {found}" in str(raised.value)


@pytest.mark.parametrize("name", SCHEDULES)
def test_zero_steps_are_refused(name):
    with pytest.raises(ValueError, match="at least 1 step, found 0"):
        levels(name, 0)


@pytest.mark.parametrize(
    ("name", "steps", "options", "message"),
    [
        ("karras", 5, {"rho": 0.0}, "rho above 0, found 0.0"),
        ("karras", 5, {"rho": 1e-3}, "finite noise levels"),
        ("polyexponential", 5, {"rho": -1.0}, "rho above 0, found -1.0"),
        ("laplace", 5, {"beta": 0.0}, "beta above 0, found 0.0 and 0.0"),
        ("laplace", 5, {"mu": math.nan}, "finite mu"),
        ("vp", 5, {"eps_s": 1.0}, "eps_s between 0 and 1, found 19.9, 0.1 and 1.0"),
        ("vp", 5, {"beta_d": 0.0, "beta_min": 0.0}, "not both 0"),
        ("vp", 5, {"beta_d": 500.0}, "finite noise levels"),
        ("beta", 5, {"alpha": 0.0}, "alpha and beta above 0, found 0.0 and 0.6"),
        ("linear_quadratic", 5, {"linear_steps": 5}, "linear_steps between 1 and 4 for 5 steps, found 5"),
        ("linear_quadratic", 5, {"threshold_noise": 1.0}, "threshold_noise between 0 and 1, found 1.0"),
        ("linear_quadratic", 10, {"threshold_noise": 0.4, "linear_steps": 2}, "below 0.349 for 2 linear steps of 10, found 0.4"),
        ("turbo", 5, {"denoise": 0.4}, "at most 4 of 10 steps with denoise 0.4, found 5"),
        ("turbo", 1, {"denoise": 0.0}, "denoise above 0 and at most 1.*found 0.0"),
        ("align_your_steps", 5, {"model": "sd3"}, "model sd1, sdxl, svd, found 'sd3'"),
        ("leading", 5, {"steps_offset": -1}, "steps_offset of at least 0, found -1"),
        ("leading", 1000, {}, "fit into 1000 training steps with steps_offset 1, found 1000"),
        ("leading", 5, {"steps_offset": 300}, "with steps_offset 300, found 5"),
        ("trailing", 1001, {}, "at most 1000 steps"),
        ("linspace", 1000, {"rule": "dpm"}, "at most 999 steps with rule dpm"),
        ("simple", 1001, {}, "at most 1000 steps"),
    ],
)
def test_values_out_of_range_are_refused(name, steps, options, message):
    with pytest.raises(ValueError, match=message):
        levels(name, steps, **options)
