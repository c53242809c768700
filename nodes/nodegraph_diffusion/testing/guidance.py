"""The checks that every guidance must pass, each a function.

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
"""The noise levels of a run."""


def check_guidance_options(guidance: Guidance) -> None:
    """It can be called as guidance, and its options have defaults of the annotated types."""
    try:
        require_callable_with(guidance, "guidance", ("denoiser",))
        check_options("guidance", guidance, options_of(guidance))
    except ValueError as error:
        raise AssertionError(str(error)) from error


def check_predictions(guidance: Guidance) -> None:
    """The guided denoiser has the conditions of the original one, and `predict` returns the same estimate as a call."""
    for sigma in LEVELS:
        x, plain = start() * sigma, TwoSidedDenoiser()
        called, predicted = guidance(TwoSidedDenoiser())(x, sigma), guidance(TwoSidedDenoiser()).predict(x, sigma)
        same = torch.allclose(called, predicted.denoised, atol=1e-5)
        require(same, "the same estimate from predict as from a call", "another estimate")
        expected = plain.predict(x, sigma)  # a guided denoiser need not compute a negative prediction that it does not use
        same = torch.allclose(predicted.positive, expected.positive, atol=1e-5)
        require(same, "the denoiser's own positive prediction", "another one")
        conditions: tuple[tuple[Condition, Tensor], ...] = ("positive", expected.positive), ("negative", expected.negative)
        for condition, expected_one in conditions:
            same = torch.allclose(guidance(plain).predict_one(condition, x, sigma), expected_one, atol=1e-5)
            require(same, f"the denoiser's own {condition} prediction from predict_one", "another one")
    require(
        guidance(plain).noise_schedule == plain.noise_schedule,
        f"the denoiser's own {plain.noise_schedule}",
        f"{guidance(plain).noise_schedule}",
    )


def check_shape(guidance: Guidance) -> None:
    """An estimate has the shape and dtype of x and is finite, even if x is zero and both predictions are the same."""
    for x, denoiser in ((start() * 10, TwoSidedDenoiser()), (torch.zeros_like(start()), TwoSidedDenoiser(cfg=1.0))):
        for sigma, found in zip(LEVELS, _estimates(guidance(denoiser), x), strict=True):
            require(found.shape == x.shape, f"shape {tuple(x.shape)} at level {sigma}", f"{tuple(found.shape)}")
            require(found.dtype == x.dtype, f"{x.dtype} at level {sigma}", f"{found.dtype}")
            require(bool(found.isfinite().all()), f"finite numbers at level {sigma}", "others")


def check_alone(guidance: Guidance) -> None:
    """A picture gets the same estimates in a batch as alone, in a whole run."""
    x = start() * 10
    together, single = _estimates(guidance(TwoSidedDenoiser()), x), _estimates(guidance(TwoSidedDenoiser()), x[2:])
    difference = max(float((a[2:] - b).abs().max()) for a, b in zip(together, single, strict=True))
    require(difference < 1e-4, "the same picture in a batch as alone, within 0.0001", f"{difference:.3g} apart")


def check_anew(guidance: Guidance) -> None:
    """A run does not depend on earlier runs, of this picture or of another size, and changes nothing in place."""
    x, denoiser = start() * 10, TwoSidedDenoiser()
    original, guided = x.clone(), guidance(denoiser)
    first = _estimates(guided, x)
    second = _estimates(guided, x)
    _estimates(guided, torch.zeros(1, 4, 4, 4))
    third = _estimates(guided, x)
    same = all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, second, third, strict=True))
    require(same, "the same estimates in a second run", "others: memory must belong to one run")
    require(torch.equal(x, original), "x unchanged", "x changed in place")
    changed = sum(not torch.equal(prediction, copy) for prediction, copy in denoiser.predictions)
    require(not changed, "the denoiser's predictions unchanged", f"{changed} of {len(denoiser.predictions)} changed in place")


def check_sampled(guidance: Guidance) -> None:
    """Samplers work with it, with a mask and without: one that calls it once a step, one that calls it twice."""
    latent, noise = torch.zeros_like(start()), draw_noise(start().shape, 5)
    for name in ("euler", "heun"):
        for mask in (None, torch.ones(1, 8, 6).tril()):
            guided = guidance(TwoSidedDenoiser())
            sampled = sample(guided, latent, noise, SAMPLERS[name], sigmas=even_sigmas(6, end=True).float(), mask=mask)
            found = f"shape {tuple(sampled.shape)}, {int(sampled.isfinite().sum())} finite"
            require(sampled.shape == latent.shape and bool(sampled.isfinite().all()), f"finite latents from {name}", found)


GUIDANCE_CHECKS: tuple[Callable[[Guidance], None], ...] = (
    check_guidance_options,
    check_predictions,
    check_shape,
    check_alone,
    check_anew,
    check_sampled,
)
"""All checks of guidance."""


def check_guidance(guidance: Guidance) -> None:
    """Run all of `GUIDANCE_CHECKS`. Raises AssertionError at the first that fails."""
    for check in GUIDANCE_CHECKS:
        check(guidance)


def _estimates(guided: Any, x: Tensor) -> list[Tensor]:
    """The estimates of a run of Euler steps that starts at x."""
    estimates, sigma = [], LEVELS[0]
    for sigma_next in (*LEVELS[1:], 0.0):
        denoised = guided(x, sigma)
        estimates.append(denoised)
        x, sigma = denoised + (x - denoised) * (sigma_next / sigma), sigma_next
    return estimates
