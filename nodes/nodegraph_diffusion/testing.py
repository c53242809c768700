"""The kit that checks a sampler: what every one promises, each promise a function, and the order of its convergence.

    import pytest
    from nodegraph_diffusion.testing import SAMPLER_CHECKS

    @pytest.mark.parametrize("check", SAMPLER_CHECKS)
    def test_my_sampler(check):
        check(sample_mine)

A check raises AssertionError with what was expected and found. The problem that they solve is one with a known answer: data
drawn from a normal distribution, of which the best denoiser and the probability flow are closed forms.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nodegraph_diffusion.sampling import SamplerSpec, draw_noise, sample
from nodegraph_diffusion.sampling.interface import Sampler
from nodegraph_diffusion.sampling.options import check_options, options_of
from nodegraph_diffusion.schedule import NoiseSchedule

SCHEDULE = NoiseSchedule()

_SHAPE = (3, 4, 8, 6)
_MEAN, _DEVIATION = 0.7, 0.5


class GaussianDenoiser:
    """The exact denoiser of data drawn from N(mean, deviation^2), every element by itself.

    E[clean | x] = mean + (x - mean) * deviation^2 / (deviation^2 + sigma^2). `levels` are the noise levels it was asked at; what
    the other side of guidance sees is the same.
    """

    schedule = SCHEDULE

    def __init__(self, mean: float = _MEAN, deviation: float = _DEVIATION) -> None:
        self.mean, self.deviation = mean, deviation
        self.levels: list[float] = []

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w), in the dtype of x."""
        self.levels.append(float(sigma))
        return self.mean + (x - self.mean) * (self.deviation**2 / (self.deviation**2 + float(sigma) ** 2))

    def guided(self, x: Tensor, sigma: float, /) -> tuple[Tensor, Tensor]:
        """The same, as samplers of the CFG++ kind ask."""
        denoised = self(x, sigma)
        return denoised, denoised

    def solution(self, x: Tensor, sigma: float, sigma_end: float) -> Tensor:
        """Where the probability flow takes x from level `sigma` to `sigma_end` (Karras et al. 2022, Eq. 1, solved)."""
        ratio = (self.deviation**2 + sigma_end**2) / (self.deviation**2 + sigma**2)
        return self.mean + (x - self.mean) * math.sqrt(ratio)


class TwistedDenoiser:
    """A denoiser that is linear in nothing and mixes neighbours, to compare two samplers on; it means nothing."""

    schedule = SCHEDULE

    def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
        """(B, C, h, w) -> (B, C, h, w)."""
        scaled = x / math.sqrt(1 + float(sigma) ** 2)
        denoised = torch.tanh(scaled + 0.3 * scaled.roll(1, -1)) * (1 + 0.2 * math.sin(float(sigma)))
        return denoised + 0.1 * scaled.cos()

    def guided(self, x: Tensor, sigma: float, /) -> tuple[Tensor, Tensor]:
        """The estimate, and another one for the side that guidance leads away from."""
        denoised = self(x, sigma)
        return denoised, 0.8 * denoised + 0.1 * torch.sin(x / math.sqrt(1 + float(sigma) ** 2))


def even_sigmas(steps: int, largest: float = 10.0, smallest: float = 0.1, end: bool = False) -> Tensor:
    """Noise levels evenly spaced in their logarithm, (steps + 1,) float64; with `end`, the last one is 0."""
    if end:
        return torch.cat([torch.logspace(math.log10(largest), math.log10(smallest), steps, dtype=torch.float64), torch.zeros(1)])
    return torch.logspace(math.log10(largest), math.log10(smallest), steps + 1, dtype=torch.float64)


def sampling_error(sampler: Sampler, steps: int, **options: Any) -> float:
    """How far the sampler ends from the exact solution, the largest difference, after `steps` steps from level 10 to 0.1."""
    denoise = GaussianDenoiser()
    x = _start(torch.float64) * 10
    return float((_run(sampler, denoise, x, even_sigmas(steps), **options) - denoise.solution(x, 10.0, 0.1)).abs().max())


def convergence_order(sampler: Sampler, steps: int = 64, **options: Any) -> float:
    """The empirical order of convergence: log2 of how much nearer twice the steps come to the exact solution."""
    return math.log2(sampling_error(sampler, steps, **options) / sampling_error(sampler, 2 * steps, **options))


def check_declared(sampler: Sampler) -> None:
    """It can be called as a sampler is, its options have defaults of their own types, and what is declared of it holds."""
    spec = _spec(sampler)
    check_options("sampler", spec.function, options_of(spec.function))
    denoise, asked = GaussianDenoiser(), 0
    x = _start() * 10

    def noise(sigma_from: float, sigma_to: float) -> Tensor:
        nonlocal asked
        asked += 1
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(asked))

    spec(denoise, x, even_sigmas(6, end=True).float(), noise=noise, on_step=_ignore)
    _require(bool(asked) == spec.stochastic, f"stochastic={bool(asked)}: it drew noise {asked} times", f"{spec.stochastic}")
    if spec.evaluations_per_step is not None:
        most = 6 * spec.evaluations_per_step
        calls = len(denoise.levels)
        least = most - 2 * spec.evaluations_per_step  # first or last steps may be of a lower order
        _require(least < calls <= most, f"at most {most} calls of denoise in 6 steps, as declared", f"{calls}")


def check_exact(sampler: Sampler) -> None:
    """In the limit it is exact: on the flow where it draws no noise, in mean and deviation where it does."""
    spec = _spec(sampler)
    if spec.stochastic:
        unit = torch.randn(1, 1, 150, 150, generator=torch.Generator().manual_seed(1))
        x = _MEAN + unit * math.hypot(_DEVIATION, SCHEDULE.sigma_max)
        sampled = _run(spec, GaussianDenoiser(), x, even_sigmas(200, SCHEDULE.sigma_max, SCHEDULE.sigma_min, end=True).float())
        mean, deviation = float(sampled.mean()), float(sampled.std())
        _require(abs(mean - _MEAN) < 0.02, f"a mean of {_MEAN}, that of the data", f"{mean:.3f}")
        _require(abs(deviation / _DEVIATION - 1) < 0.03, f"a deviation of {_DEVIATION}, that of the data", f"{deviation:.3f}")
        return
    coarse, fine = sampling_error(spec, 32), sampling_error(spec, 512)
    _require(fine < 0.02, "the exact solution within 0.02 after 512 steps", f"{fine:.3g} from it")
    _require(fine < coarse / 4 or fine < 1e-4, f"512 steps to come nearer than 32, which come to {coarse:.3g}", f"{fine:.3g}")


def check_order(sampler: Sampler) -> None:
    """It converges as fast as is declared of it, to a quarter of an order."""
    spec = _spec(sampler)
    if spec.order is not None:
        found = convergence_order(spec)
        _require(found > spec.order - 0.25, f"order {spec.order}, as declared", f"{found:.2f}")


def check_repeatable(sampler: Sampler) -> None:
    """The same is the same to the last bit, and what it is given stays as it was."""
    spec, sigmas = _spec(sampler), even_sigmas(6, end=True).float()
    x = _start() * 10
    kept = x.clone(), sigmas.clone()
    seen: list[tuple[Tensor, Tensor]] = []

    def denoise(x: Tensor, sigma: float) -> Tensor:
        denoised = TwistedDenoiser()(x, sigma)
        seen.append((denoised, denoised.clone()))
        return denoised

    denoise.guided = lambda x, sigma: (denoise(x, sigma), denoise(x * 0.9, sigma))  # type: ignore[attr-defined]
    first, second = (_run(spec, denoise, x, sigmas) for _ in range(2))
    _require(torch.equal(first, second), "the same result twice", "two different ones")
    _require(torch.equal(x, kept[0]) and torch.equal(sigmas, kept[1]), "x and sigmas as they were", "them changed in place")
    changed = sum(not torch.equal(given, copy) for given, copy in seen)
    _require(not changed, "what denoise gave as it was", f"{changed} of {len(seen)} changed in place")


def check_batch(sampler: Sampler) -> None:
    """A picture of a batch gets the noise that it gets alone, to the last bit, and becomes the same picture."""
    spec, sigmas = _spec(sampler), even_sigmas(8, 12.0, 0.05, end=True).float()
    latent, noise = torch.zeros(_SHAPE), draw_noise(_SHAPE, 5)
    drawn: dict[str, list[Tensor]] = {"batch": [], "alone": []}

    def listening(which: str) -> SamplerSpec:
        def listened(denoise: Any, x: Tensor, sigmas: Tensor, *, noise: Any, on_step: Any) -> Tensor:
            def draw(sigma_from: float, sigma_to: float) -> Tensor:
                drawn[which].append(noise(sigma_from, sigma_to))
                return drawn[which][-1]

            return spec(denoise, x, sigmas, noise=draw, on_step=on_step)

        return SamplerSpec(listened, stochastic=spec.stochastic, noise=spec.noise)

    batch = sample(TwistedDenoiser(), latent, noise, listening("batch"), sigmas, seed=5)
    alone = sample(TwistedDenoiser(), latent[2:], noise[2:], listening("alone"), sigmas, seed=7)
    same = len(drawn["batch"]) == len(drawn["alone"]) and all(
        torch.equal(of_all[2:], of_one) for of_all, of_one in zip(drawn["batch"], drawn["alone"], strict=True)
    )
    _require(same or spec.evaluations_per_step is None, "the same noise for a picture in a batch as alone", "other noise")
    tolerance = 1e-4 if spec.evaluations_per_step is not None else 0.1  # one that chooses its steps looks at the whole batch
    difference = float((batch[2:] - alone).abs().max())
    _require(difference < tolerance, f"the same picture in a batch as alone, within {tolerance}", f"{difference:.3g} apart")


def check_steps(sampler: Sampler) -> None:
    """`on_step` hears of every step once, in order, the last time of the result; a run may have one step, or stop early."""
    spec, x = _spec(sampler), _start() * 10
    for sigmas in (even_sigmas(6, end=True), even_sigmas(6), even_sigmas(1, end=True), even_sigmas(1), even_sigmas(2, end=True)):
        reports: list[tuple[int, Tensor, Tensor]] = []
        result = spec(
            GaussianDenoiser(), x, sigmas.float(), noise=_noise(x), on_step=lambda *report, heard=reports: heard.append(report)
        )
        steps = len(sigmas) - 1
        heard = [i for i, _, _ in reports]
        expected = list(range(len(heard) if spec.evaluations_per_step is None else steps))
        _require(heard == expected and bool(heard), f"on_step with {expected} in {steps} steps", f"{heard}")
        _require(torch.equal(reports[-1][1], result), "the result at the last on_step", "something else")
        shapes = {tuple(tensor.shape) for _, now, denoised in reports for tensor in (now, denoised)}
        _require(shapes == {tuple(x.shape)}, f"latents of shape {tuple(x.shape)} at on_step", f"{sorted(shapes)}")
        _require(bool(result.isfinite().all()), f"finite numbers after {steps} steps to {float(sigmas[-1]):g}", "others")


def check_dtypes(sampler: Sampler) -> None:
    """It computes in the dtype and on the device of x: float16, bfloat16, float64, and CUDA where there is one."""
    spec, sigmas = _spec(sampler), even_sigmas(8, end=True).float()
    exact = _run(spec, GaussianDenoiser(), _start() * 10, sigmas)
    places = [("cpu", torch.float64), ("cpu", torch.bfloat16), ("cpu", torch.float16)]
    if torch.cuda.is_available():
        places += [("cuda", torch.float32), ("cuda", torch.float16)]
    for device, dtype in places:
        x = (_start() * 10).to(device, dtype)
        result = _run(spec, GaussianDenoiser(), x, sigmas)
        _require(result.dtype == dtype and result.device.type == device, f"a result in {dtype} on {device}", f"{result.dtype}")
        difference = float((result.float().cpu() - exact).abs().max())
        bound = {torch.bfloat16: 0.5, torch.float16: 0.1}.get(dtype, 1e-3)
        if spec.evaluations_per_step is not None or dtype == torch.float64:
            _require(difference < bound, f"{dtype} within {bound} of float32", f"{difference:.3g} apart")


SAMPLER_CHECKS: tuple[Callable[[Sampler], None], ...] = (
    check_declared,
    check_exact,
    check_order,
    check_repeatable,
    check_batch,
    check_steps,
    check_dtypes,
)
"""Every check of a sampler. Each takes the function itself, or a `SamplerSpec` with what is declared of it."""


def check_sampler(sampler: Sampler) -> None:
    """All of `SAMPLER_CHECKS`, one after another. Raises AssertionError at the first that fails."""
    for check in SAMPLER_CHECKS:
        check(sampler)


def _spec(sampler: Sampler) -> SamplerSpec:
    if isinstance(sampler, SamplerSpec):
        return sampler
    return SamplerSpec(sampler, stochastic=_draws(sampler), evaluations_per_step=None)


def _draws(sampler: Sampler) -> bool:
    """Whether a sampler asks for noise, of which nothing was declared."""
    asked = []
    x = _start() * 10

    def noise(sigma_from: float, sigma_to: float) -> Tensor:
        asked.append(sigma_to)
        return torch.zeros_like(x)

    sampler(GaussianDenoiser(), x, even_sigmas(4, end=True).float(), noise=noise, on_step=_ignore)
    return bool(asked)


def _run(sampler: Sampler, denoise: Any, x: Tensor, sigmas: Tensor, **options: Any) -> Tensor:
    return sampler(denoise, x, sigmas, noise=_noise(x), on_step=_ignore, **options)


def _start(dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.randn(_SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)


def _noise(like: Tensor) -> Callable[[float, float], Tensor]:
    generator = torch.Generator().manual_seed(3)
    return lambda sigma_from, sigma_to: torch.randn(like.shape, generator=generator).to(like)


def _ignore(i: int, x: Tensor, denoised: Tensor) -> None:
    """Progress that nobody watches."""


def _require(holds: bool, expected: str, found: str) -> None:
    if not holds:
        raise AssertionError(f"expected {expected}, found {found}")
