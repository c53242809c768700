"""The checks that every sampler must pass, each a function.

A failed check raises AssertionError with what was expected and found.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nodegraph_diffusion.denoising import Predictions
from nodegraph_diffusion.options import check_options, options_of
from nodegraph_diffusion.sampling import SamplerSpec, draw_noise, sample
from nodegraph_diffusion.sampling.protocols import Sampler
from nodegraph_diffusion.testing.convergence import convergence_order, sampling_error
from nodegraph_diffusion.testing.toys import (
    DEVIATION,
    MEAN,
    SCHEDULE,
    SHAPE,
    GaussianDenoiser,
    TwistedDenoiser,
    even_sigmas,
    ignore_step,
    require,
    run,
    start,
    unit_noise,
)


def check_declared(sampler: Sampler) -> None:
    """It can be called as a sampler, its options have defaults of the annotated types, and its description is true."""
    spec = _spec(sampler)
    check_options("sampler", spec.function, options_of(spec.function))
    denoise, draws = GaussianDenoiser(), 0
    x = start() * 10

    def noise(sigma_from: float, sigma_to: float) -> Tensor:
        nonlocal draws
        draws += 1
        return torch.randn(x.shape, generator=torch.Generator().manual_seed(draws))

    spec(denoise, x, even_sigmas(6, end=True).float(), noise=noise, on_step=ignore_step)
    require(bool(draws) == spec.stochastic, f"stochastic={bool(draws)}: it drew noise {draws} times", f"{spec.stochastic}")
    if spec.evaluations_per_step is not None:
        most = 6 * spec.evaluations_per_step
        calls = len(denoise.levels)
        least = most - 2 * spec.evaluations_per_step  # first and last steps may be of lower order; the first may take a call more
        require(least < calls <= most + 1, f"at most {most} calls of denoise in 6 steps, as declared", f"{calls}")


def check_exact(sampler: Sampler) -> None:
    """With many steps it is exact: it follows the flow, or, if it draws noise, reaches the mean and deviation of the data."""
    spec = _spec(sampler)
    if spec.stochastic:
        unit = torch.randn(1, 1, 150, 150, generator=torch.Generator().manual_seed(1))
        x = MEAN + unit * math.hypot(DEVIATION, SCHEDULE.sigma_max)
        sampled = run(spec, GaussianDenoiser(), x, even_sigmas(200, SCHEDULE.sigma_max, SCHEDULE.sigma_min, end=True).float())
        mean, deviation = float(sampled.mean()), float(sampled.std())
        require(abs(mean - MEAN) < 0.02, f"a mean of {MEAN}, that of the data", f"{mean:.3f}")
        require(abs(deviation / DEVIATION - 1) < 0.03, f"a deviation of {DEVIATION}, that of the data", f"{deviation:.3f}")
        return
    coarse, fine = sampling_error(spec, 32), sampling_error(spec, 512)
    bound = 0.1 if _chooses_steps(sampler) else 0.02  # then its tolerance bounds the error, not the number of steps
    require(fine < bound, f"the exact solution within {bound} after 512 steps", f"{fine:.3g} from it")
    nearer = fine < coarse / 4 or fine < 1e-4 or _chooses_steps(sampler)
    require(nearer, f"a smaller error with 512 steps than with 32, which have {coarse:.3g}", f"{fine:.3g}")


def check_order(sampler: Sampler) -> None:
    """It converges at least as fast as declared, to a quarter of an order."""
    spec = _spec(sampler)
    if spec.order is not None:
        found = convergence_order(spec)
        require(found > spec.order - 0.25, f"order {spec.order}, as declared", f"{found:.2f}")


def check_repeatable(sampler: Sampler) -> None:
    """Two runs are the same to the last bit, and nothing is changed in place."""
    spec, sigmas = _spec(sampler), even_sigmas(6, end=True).float()
    x = start() * 10
    originals = x.clone(), sigmas.clone()
    seen: list[tuple[Tensor, Tensor]] = []

    class RecordingDenoiser(TwistedDenoiser):
        def __call__(self, x: Tensor, sigma: float | Tensor, /) -> Tensor:
            denoised = super().__call__(x, sigma)
            seen.append((denoised, denoised.clone()))
            return denoised

        def predict(self, x: Tensor, sigma: float | Tensor, /, negative: bool = True) -> Predictions:
            positive, other = self(x, sigma), self(x * 0.9, sigma)
            return Predictions(positive, positive, other)

    first, second = (run(spec, RecordingDenoiser(), x, sigmas) for _ in range(2))
    require(torch.equal(first, second), "the same result twice", "two different ones")
    require(torch.equal(x, originals[0]) and torch.equal(sigmas, originals[1]), "x and sigmas unchanged", "them changed in place")
    changed = sum(not torch.equal(estimate, copy) for estimate, copy in seen)
    require(not changed, "the estimates unchanged", f"{changed} of {len(seen)} changed in place")


def check_batch(sampler: Sampler) -> None:
    """A picture gets the same noise in a batch as alone, to the last bit, and becomes the same picture."""
    spec, sigmas = _spec(sampler), even_sigmas(8, 12.0, 0.05, end=True).float()
    latent, noise = torch.zeros(SHAPE), draw_noise(SHAPE, 5)
    drawn: dict[str, list[Tensor]] = {"batch": [], "alone": []}

    def listening(which: str) -> SamplerSpec:
        def listened(denoise: Any, x: Tensor, sigmas: Tensor, *, noise: Any, on_step: Any) -> Tensor:
            def draw(sigma_from: float, sigma_to: float) -> Tensor:
                drawn[which].append(noise(sigma_from, sigma_to))
                return drawn[which][-1]

            return spec(denoise, x, sigmas, noise=draw, on_step=on_step)

        return SamplerSpec(listened, stochastic=spec.stochastic, noise=spec.noise)

    batch = sample(TwistedDenoiser(), latent, noise, listening("batch"), sigmas=sigmas, seed=5)
    single = sample(TwistedDenoiser(), latent[2:], noise[2:], listening("alone"), sigmas=sigmas, seed=7)
    same = len(drawn["batch"]) == len(drawn["alone"]) and all(
        torch.equal(of_all[2:], of_one) for of_all, of_one in zip(drawn["batch"], drawn["alone"], strict=True)
    )
    require(same or spec.evaluations_per_step is None, "the same noise for a picture in a batch as alone", "other noise")
    tolerance = 1e-4 if spec.evaluations_per_step is not None else 0.1  # adaptive steps depend on the whole batch
    difference = float((batch[2:] - single).abs().max())
    require(difference < tolerance, f"the same picture in a batch as alone, within {tolerance}", f"{difference:.3g} apart")


def check_steps(sampler: Sampler) -> None:
    """`on_step` is called once per step, in order, the last time with the result; runs of one step, and not to 0, work, too."""
    spec, x = _spec(sampler), start() * 10
    for sigmas in (even_sigmas(6, end=True), even_sigmas(6), even_sigmas(1, end=True), even_sigmas(1), even_sigmas(2, end=True)):
        reports: list[tuple[int, Tensor, Tensor]] = []
        result = spec(
            GaussianDenoiser(),
            x,
            sigmas.float(),
            noise=unit_noise(x),
            on_step=lambda *report, reports=reports: reports.append(report),
        )
        steps = len(sigmas) - 1
        indices = [i for i, _, _ in reports]
        expected = list(range(len(indices) if spec.evaluations_per_step is None else steps))
        require(indices == expected and bool(indices), f"on_step with {expected} in {steps} steps", f"{indices}")
        require(torch.equal(reports[-1][1], result), "the result at the last on_step", "something else")
        shapes = {tuple(tensor.shape) for _, now, denoised in reports for tensor in (now, denoised)}
        require(shapes == {tuple(x.shape)}, f"latents of shape {tuple(x.shape)} at on_step", f"{sorted(shapes)}")
        require(bool(result.isfinite().all()), f"finite numbers after {steps} steps to {float(sigmas[-1]):g}", "others")


def check_dtypes(sampler: Sampler) -> None:
    """It computes in the dtype and on the device of x: float16, bfloat16, float64, and CUDA if available."""
    spec, sigmas = _spec(sampler), even_sigmas(8, end=True).float()
    exact = run(spec, GaussianDenoiser(), start() * 10, sigmas)
    combinations = [("cpu", torch.float64), ("cpu", torch.bfloat16), ("cpu", torch.float16)]
    if torch.cuda.is_available():
        combinations += [("cuda", torch.float32), ("cuda", torch.float16)]
    for device, dtype in combinations:
        x = (start() * 10).to(device, dtype)
        result = run(spec, GaussianDenoiser(), x, sigmas)
        require(result.dtype == dtype and result.device.type == device, f"a result in {dtype} on {device}", f"{result.dtype}")
        difference = float((result.float().cpu() - exact).abs().max())
        bound = {torch.bfloat16: 0.5, torch.float16: 0.1}.get(dtype, 0.02 if _chooses_steps(sampler) else 1e-3)
        if spec.evaluations_per_step is not None or dtype == torch.float64:
            require(difference < bound, f"{dtype} within {bound} of float32", f"{difference:.3g} apart")


SAMPLER_CHECKS: tuple[Callable[[Sampler], None], ...] = (
    check_declared,
    check_exact,
    check_order,
    check_repeatable,
    check_batch,
    check_steps,
    check_dtypes,
)
"""All checks of a sampler. Each accepts the function itself or a `SamplerSpec`, whose description is checked, too."""


def check_sampler(sampler: Sampler) -> None:
    """Run all of `SAMPLER_CHECKS`. Raises AssertionError at the first that fails."""
    for check in SAMPLER_CHECKS:
        check(sampler)


def _spec(sampler: Sampler) -> SamplerSpec:
    if isinstance(sampler, SamplerSpec):
        return sampler
    return SamplerSpec(sampler, stochastic=_draws(sampler), evaluations_per_step=None)


def _chooses_steps(sampler: Sampler) -> bool:
    return isinstance(sampler, SamplerSpec) and sampler.evaluations_per_step is None


def _draws(sampler: Sampler) -> bool:
    """Whether a sampler draws noise, for a function without a description."""
    drawn_to = []
    x = start() * 10

    def noise(sigma_from: float, sigma_to: float) -> Tensor:
        drawn_to.append(sigma_to)
        return torch.zeros_like(x)

    sampler(GaussianDenoiser(), x, even_sigmas(4, end=True).float(), noise=noise, on_step=ignore_step)
    return bool(drawn_to)
