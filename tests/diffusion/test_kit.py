"""The kit passes every sampler of ours, and none of those that break a promise."""

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
    "lcm": "it is made for consistent models, which the best denoiser of the data is not",
    "dpmpp_2s_ancestral_cfg_pp": "its half steps take the negative side's estimate from different levels, as ComfyUI's do",
}


@pytest.mark.parametrize("check", SAMPLER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", SAMPLERS)
def test_every_sampler_keeps_its_promises(name, check):
    if check is check_exact and name in NOT_EXACT:
        pytest.skip(NOT_EXACT[name])
    check(SAMPLERS[name])


def test_a_plain_function_is_checked_too():
    check_sampler(sample_euler)
    assert convergence_order(sample_euler) == pytest.approx(1, abs=0.1)


def walk(step):
    """A sampler whose step to sigma_next is step(x, denoised, sigma, sigma_next, noise)."""

    def sample_walk(denoise, x, sigmas, *, noise, on_step):
        levels = sigmas.tolist()
        for i in range(len(levels) - 1):
            denoised = denoise(x, levels[i])
            x = step(x, denoised, levels[i], levels[i + 1], noise)
            on_step(i, x, denoised)
        return x

    return sample_walk


def euler(x, denoised, sigma, sigma_next, noise):
    return x + (x - denoised) / sigma * (sigma_next - sigma)


def too_far(x, denoised, sigma, sigma_next, noise):
    return x + 1.1 * (x - denoised) / sigma * (sigma_next - sigma)


def in_place(x, denoised, sigma, sigma_next, noise):
    return x.add_((x - denoised) / sigma * (sigma_next - sigma))


def of_the_batch(x, denoised, sigma, sigma_next, noise):
    return euler(x, denoised, sigma, sigma_next, noise) + 0.01 * x.mean()


def global_noise(x, denoised, sigma, sigma_next, noise):
    return denoised + torch.randn_like(x) * sigma_next


def noisy(x, denoised, sigma, sigma_next, noise):
    return denoised + noise(sigma, sigma_next) * sigma_next * 1.5


def in_float32(x, denoised, sigma, sigma_next, noise):
    return euler(x.float(), denoised.float(), sigma, sigma_next, noise)


def silent(denoise, x, sigmas, *, noise, on_step):
    return sample_euler(denoise, x, sigmas, noise=noise, on_step=lambda i, x, denoised: None)


@pytest.mark.parametrize(
    ("check", "broken", "said"),
    [
        (check_declared, SamplerSpec(walk(noisy)), "stochastic=True"),
        (check_declared, SamplerSpec(walk(euler), evaluations_per_step=3), "calls of denoise in 6 steps"),
        (check_declared, SamplerSpec(walk(euler), stochastic=True), "found True"),
        (check_exact, walk(too_far), "the exact solution within 0.02"),
        (check_exact, walk(noisy), "a deviation of 0.5"),
        (check_order, SamplerSpec(walk(euler), order=2), "expected order 2, as declared, found 0.99"),
        (check_repeatable, walk(in_place), "x and sigmas as they were"),
        (check_repeatable, walk(global_noise), "the same result twice"),
        (check_batch, SamplerSpec(walk(of_the_batch)), "the same picture in a batch as alone"),
        (check_steps, silent, "on_step with"),
        (check_dtypes, walk(in_float32), "a result in torch.float64"),
    ],
)
def test_a_sampler_that_breaks_a_promise_is_found(check, broken, said):
    with pytest.raises(AssertionError, match=said):
        check(broken)


# --- measured orders


@pytest.mark.parametrize("name", sorted(measurable()))
def test_the_kept_orders_are_those_that_are_measured(name):
    assert SAMPLERS[name].measured is not None, "run: python -m nodegraph_diffusion.testing --write"
    assert SAMPLERS[name].measured == pytest.approx(convergence_order(SAMPLERS[name]), abs=0.1)


def test_only_what_can_be_measured_is_kept():
    assert set(MEASURED) == set(measurable())
    assert not [name for name in MEASURED if SAMPLERS[name].stochastic]


@pytest.mark.parametrize("name", sorted(measurable()))
def test_every_order_is_drawn(name):
    drawn = (Path(__file__).parents[2] / "docs/images/orders.svg").read_text(encoding="utf-8")
    assert f">{name}</text>" in drawn, "run: python docs/plot_orders.py"


def test_a_table_of_all_is_printed():
    lines = table(MEASURED).splitlines()
    assert [line.split()[0] for line in lines[1:]] == sorted(SAMPLERS)
    heun = next(line.split() for line in lines if line.startswith("heun "))
    assert heun == ["heun", "2", f"{MEASURED['heun']:.2f}", "2"]


def test_the_kept_module_says_what_was_measured():
    names: dict = {}
    exec(as_python({"b": 2.0, "a": 0.99}), names)
    assert names["MEASURED"] == {"a": 0.99, "b": 2.0}


def test_what_a_plugin_registers_is_what_the_engine_sees():
    plugin = ModuleType("plugin")
    plugin.register_samplers = lambda register: register("mine", sample_euler, order=1)  # type: ignore[attr-defined]
    spec = registered(plugin, "samplers")["mine"]
    assert isinstance(spec, SamplerSpec)
    assert spec.order == 1
    with pytest.raises(AssertionError, match="a hook register_schedules in plugin"):
        registered(plugin, "schedules")
