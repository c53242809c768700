"""What every guidance promises, each promise a function.

Guidance is a function `guidance(denoiser, *, options) -> denoiser` over a `GuidedDenoiser`. A check raises AssertionError with what
was expected and found.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from nodegraph_diffusion.denoising import Condition, GuidedDenoiser
from nodegraph_diffusion.options import check_options, options_of, require_callable_with
from nodegraph_diffusion.sampling import SAMPLERS, draw_noise, sample
from nodegraph_diffusion.testing.toys import TwoSidedDenoiser, even_sigmas, require, start

Guidance = Callable[..., GuidedDenoiser]

LEVELS = (10.0, 4.0, 1.5, 0.5, 0.1)
"""A run's noise levels."""


def check_guidance_options(guidance: Guidance) -> None:
    """It can be called as guidance is, and its options have defaults of their own types."""
    try:
        require_callable_with(guidance, "guidance", ("denoiser",))
        check_options("guidance", guidance, options_of(guidance))
    except ValueError as error:
        raise AssertionError(str(error)) from error


def check_sides(guidance: Guidance) -> None:
    """What it gives has two sides again, those of the denoiser given, and its estimate is the same by either way to ask."""
    for sigma in LEVELS:
        x, plain = start() * sigma, TwoSidedDenoiser()
        called, seen = guidance(TwoSidedDenoiser())(x, sigma), guidance(TwoSidedDenoiser()).predict(x, sigma)
        require(torch.allclose(called, seen.denoised, atol=1e-5), "predict to estimate what a call does", "another estimate")
        expected = plain.predict(x, sigma)  # its negative side may not have been asked where it does not count
        require(torch.allclose(seen.positive, expected.positive, atol=1e-5), "the denoiser's own positive side", "something else")
        sides: tuple[tuple[Condition, Tensor], ...] = ("positive", expected.positive), ("negative", expected.negative)
        for which, alone in sides:
            side = guidance(plain).predict_one(which, x, sigma)
            require(torch.allclose(side, alone, atol=1e-5), f"the {which} side alone as the denoiser sees it", "something else")
    require(
        guidance(plain).noise_schedule == plain.noise_schedule,
        f"the denoiser's own {plain.noise_schedule}",
        f"{guidance(plain).noise_schedule}",
    )


def check_shape(guidance: Guidance) -> None:
    """An estimate is shaped as x is, float32 and finite, also where there is nothing in x and the sides agree."""
    for x, denoiser in ((start() * 10, TwoSidedDenoiser()), (torch.zeros_like(start()), TwoSidedDenoiser(cfg=1.0))):
        for sigma, found in zip(LEVELS, _walked(guidance(denoiser), x), strict=True):
            require(found.shape == x.shape, f"shape {tuple(x.shape)} at level {sigma}", f"{tuple(found.shape)}")
            require(found.dtype == x.dtype, f"{x.dtype} at level {sigma}", f"{found.dtype}")
            require(bool(found.isfinite().all()), f"finite numbers at level {sigma}", "others")


def check_alone(guidance: Guidance) -> None:
    """A picture of a batch gets the estimate that it gets alone, through a whole run."""
    x = start() * 10
    together, alone = _walked(guidance(TwoSidedDenoiser()), x), _walked(guidance(TwoSidedDenoiser()), x[2:])
    difference = max(float((a[2:] - b).abs().max()) for a, b in zip(together, alone, strict=True))
    require(difference < 1e-4, "the same picture in a batch as alone, within 0.0001", f"{difference:.3g} apart")


def check_anew(guidance: Guidance) -> None:
    """A run is the same after another run as before it, of this picture and of one of another size; nothing is changed in place."""
    x, denoiser = start() * 10, TwoSidedDenoiser()
    kept, guided = x.clone(), guidance(denoiser)
    first = _walked(guided, x)
    second = _walked(guided, x)
    _walked(guided, torch.zeros(1, 4, 4, 4))
    third = _walked(guided, x)
    same = all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, second, third, strict=True))
    require(same, "the same estimates in a second run", "others: what is remembered belongs to one run")
    require(torch.equal(x, kept), "x as it was", "it changed in place")
    changed = sum(not torch.equal(given, copy) for given, copy in denoiser.given)
    require(not changed, "what the denoiser gave as it was", f"{changed} of {len(denoiser.given)} changed in place")


def check_sampled(guidance: Guidance) -> None:
    """Samplers can walk along it, with a mask and without: one that calls once a step, one that calls twice."""
    latent, noise = torch.zeros_like(start()), draw_noise(start().shape, 5)
    for name in ("euler", "heun"):
        for mask in (None, torch.ones(1, 8, 6).tril()):
            guided = guidance(TwoSidedDenoiser())
            sampled = sample(guided, latent, noise, SAMPLERS[name], even_sigmas(6, end=True).float(), mask=mask)
            found = f"shape {tuple(sampled.shape)}, {int(sampled.isfinite().sum())} finite"
            require(sampled.shape == latent.shape and bool(sampled.isfinite().all()), f"finite latents from {name}", found)


GUIDANCE_CHECKS: tuple[Callable[[Guidance], None], ...] = (
    check_guidance_options,
    check_sides,
    check_shape,
    check_alone,
    check_anew,
    check_sampled,
)
"""Every check of guidance."""


def check_guidance(guidance: Guidance) -> None:
    """All of `GUIDANCE_CHECKS`, one after another. Raises AssertionError at the first that fails."""
    for check in GUIDANCE_CHECKS:
        check(guidance)


def _walked(guided: Any, x: Tensor) -> list[Tensor]:
    """The estimates of a run that starts with x: each step goes all the way to the next level."""
    estimates, sigma = [], LEVELS[0]
    for sigma_next in (*LEVELS[1:], 0.0):
        denoised = guided(x, sigma)
        estimates.append(denoised)
        x, sigma = denoised + (x - denoised) * (sigma_next / sigma), sigma_next
    return estimates
