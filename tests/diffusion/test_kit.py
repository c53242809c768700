"""The kit's checks accept every sampler of the package and find broken ones."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

from nodegraph_diffusion.sampling import SAMPLERS, SamplerSpec
from nodegraph_diffusion.sampling.measured_orders import MEASURED
from nodegraph_diffusion.sampling.methods.euler import sample_euler
from nodegraph_diffusion.testing import (
    SAMPLER_CHECKS,
    check_batch,
    check_declared,
    check_dtypes,
    check_exact,
    check_order,
    check_repeatable,
    check_sampler,
    check_steps,
    convergence_order,
    measurable,
    registered,
)
from nodegraph_diffusion.testing.__main__ import as_python, table

NOT_EXACT = {
    "lcm": "it is for consistency models, and the exact denoiser is not one",
    "dpmpp_2s_ancestral_cfg_pp": "its half steps use negative predictions from different levels, as in ComfyUI",
}


@pytest.mark.parametrize("check", SAMPLER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_passes(name, check):
    if check is check_exact and name in NOT_EXACT:
        pytest.skip(NOT_EXACT[name])
    check(SAMPLERS[name])


def test_plain_function_can_be_checked():
    check_sampler(sample_euler)
    assert convergence_order(sample_euler) == pytest.approx(1, abs=0.1)


def sampler_of(step):
    """A sampler whose step to sigma_next is step(x, denoised, sigma, sigma_next, noise)."""

    def sample(denoise, x, sigmas, *, noise, on_step):
        levels = sigmas.tolist()
        for i in range(len(levels) - 1):
            denoised = denoise(x, levels[i])
            x = step(x, denoised, levels[i], levels[i + 1], noise)
            on_step(i, x, denoised)
        return x

    return sample


def euler(x, denoised, sigma, sigma_next, noise):
    return x + (x - denoised) / sigma * (sigma_next - sigma)


def too_far(x, denoised, sigma, sigma_next, noise):
    return x + 1.1 * (x - denoised) / sigma * (sigma_next - sigma)


def in_place(x, denoised, sigma, sigma_next, noise):
    return x.add_((x - denoised) / sigma * (sigma_next - sigma))


def of_the_batch(x, denoised, sigma, sigma_next, noise):
    return euler(x, denoised, sigma, sigma_next, noise=noise) + 0.01 * x.mean()


def global_noise(x, denoised, sigma, sigma_next, noise):
    return denoised + torch.randn_like(x) * sigma_next


def noisy(x, denoised, sigma, sigma_next, noise):
    return denoised + noise(sigma, sigma_next) * sigma_next * 1.5


def in_float32(x, denoised, sigma, sigma_next, noise):
    return euler(x.float(), denoised.float(), sigma, sigma_next, noise=noise)


def without_on_step(denoise, x, sigmas, *, noise, on_step):
    return sample_euler(denoise, x, sigmas, noise=noise, on_step=lambda i, x, denoised: None)


@pytest.mark.parametrize(
    ("check", "broken", "message"),
    [
        (check_declared, SamplerSpec(sampler_of(noisy)), "stochastic=True"),
        (check_declared, SamplerSpec(sampler_of(euler), evaluations_per_step=3), "calls of denoise in 6 steps"),
        (check_declared, SamplerSpec(sampler_of(euler), stochastic=True), "found True"),
        (check_exact, sampler_of(too_far), "the exact solution within 0.02"),
        (check_exact, sampler_of(noisy), "a deviation of 0.5"),
        (check_order, SamplerSpec(sampler_of(euler), order=2), "expected order 2, as declared, found 0.99"),
        (check_repeatable, sampler_of(in_place), "x and sigmas unchanged"),
        (check_repeatable, sampler_of(global_noise), "the same result twice"),
        (check_batch, SamplerSpec(sampler_of(of_the_batch)), "the same picture in a batch as alone"),
        (check_steps, without_on_step, "on_step with"),
        (check_dtypes, sampler_of(in_float32), "a result in torch.float64"),
    ],
)
def test_broken_samplers_are_found(check, broken, message):
    with pytest.raises(AssertionError, match=message):
        check(broken)


# --- measured orders


@pytest.mark.parametrize("name", sorted(measurable()))
def test_stored_orders_are_those_measured(name):
    assert SAMPLERS[name].measured is not None, "run: python -m nodegraph_diffusion.testing --write"
    assert SAMPLERS[name].measured == pytest.approx(convergence_order(SAMPLERS[name]), abs=0.1)


def test_only_measurable_orders_are_stored():
    assert set(MEASURED) == set(measurable())
    assert not [name for name in MEASURED if SAMPLERS[name].stochastic]


@pytest.mark.parametrize("name", sorted(measurable()))
def test_plot_shows_every_order(name):
    drawn = (Path(__file__).parents[2] / "docs/images/orders.svg").read_text(encoding="utf-8")
    assert f">{name}</text>" in drawn, "run: python docs/plot_orders.py"


def test_table_lists_every_sampler():
    lines = table(MEASURED).splitlines()
    assert [line.split()[0] for line in lines[1:]] == sorted(SAMPLERS)
    heun = next(line.split() for line in lines if line.startswith("heun "))
    assert heun == ["heun", "2", f"{MEASURED['heun']:.2f}", "2"]


def test_written_module_holds_the_orders():
    names: dict = {}
    exec(as_python({"b": 2.0, "a": 0.99}), names)
    assert names["MEASURED"] == {"a": 0.99, "b": 2.0}


def test_registered_returns_the_spec():
    plugin = ModuleType("plugin")
    plugin.register_samplers = lambda register: register("mine", sample_euler, order=1)  # type: ignore[attr-defined]
    spec = registered(plugin, "samplers")["mine"]
    assert isinstance(spec, SamplerSpec)
    assert spec.order == 1
    with pytest.raises(AssertionError, match="a hook register_schedules in plugin"):
        registered(plugin, "schedules")
