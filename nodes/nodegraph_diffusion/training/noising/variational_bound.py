"""The variational bound on the negative log-likelihood of a diffusion model (Ho et al. 2020, eq. 5; Nichol & Dhariwal 2021, eq. 4).

A step is the index of a training step, from 0: step t here is t + 1 in the papers. It is one for a whole batch, or int64 (B,).
`signal` is alphas_cumprod, (steps,).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from nodegraph_diffusion.training.losses.gaussian import DiagonalGaussian
from nodegraph_diffusion.training.noising.targets import Target, add_noise, clean_error_factor

Denoise = Callable[[Tensor, int], Tensor]
"""From a noisy value (B, ...) and its step to the clean value that the model predicts."""

Variance = Literal["posterior", "beta"] | Tensor
"""Of the model's steps: that of the posterior or of the forward step (Ho et al. 2020, sec. 3.2), or a (steps,) tensor."""

Step = int | Tensor


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The terms of the bound, in bits per dimension: `prior` is L_T, (B,); `steps` is L_0 to L_{T-1}, (steps, B)."""

    prior: Tensor
    steps: Tensor

    @property
    def total(self) -> Tensor:
        """The bound for each value, (B,)."""
        return self.prior + self.steps.sum(0)


def variational_bound(
    denoise: Denoise,
    clean: Tensor,
    signal: Tensor,
    *,
    generator: torch.Generator | None = None,
    variance: Variance = "posterior",
    levels: int | None = None,
) -> Bound:
    """The bound for each of `clean`, (B, ...), with one draw of noise for each step: unbiased, and one call of `denoise` a step.

    `levels`: how many values a component can take in [-1, 1], 256 for pixels; None: a continuous value, such as a latent.
    """
    per_dimension = math.log(2) * (clean[0].numel() or 1)
    last = DiagonalGaussian(mean=signal[-1].sqrt() * clean, log_variance=(1 - signal[-1]).log())
    terms = []
    for step in range(len(signal)):
        noise = torch.randn(clean.shape, dtype=clean.dtype, generator=generator, device=clean.device)
        noisy = add_noise(clean, noise, signal[step])
        model = reverse_step(signal, step, clean=denoise(noisy, step), noisy=noisy, variance=variance)
        if step == 0:
            terms.append(model.nll(clean) if levels is None else model.discretised_nll(clean, levels))
        else:
            terms.append(posterior(signal, step, clean=clean, noisy=noisy).kl(model))
    return Bound(prior=last.kl_from_standard() / per_dimension, steps=torch.stack(terms) / per_dimension)


def posterior(signal: Tensor, step: Step, *, clean: Tensor, noisy: Tensor) -> DiagonalGaussian:
    """q(x_{t-1} | x_t, x_0), the step before a noisy value if the clean one is known (Ho et al. 2020, eq. 6 and 7)."""
    log_variance = at_steps(posterior_variances(signal).log(), step, clean)
    return DiagonalGaussian(mean=_mean(signal, step, clean, noisy), log_variance=log_variance)


def reverse_step(signal: Tensor, step: Step, *, clean: Tensor, noisy: Tensor, variance: Variance = "posterior") -> DiagonalGaussian:
    """p(x_{t-1} | x_t) of a model that predicts the clean value `clean`. At step 0 it is the distribution of the clean value."""
    log_variance = at_steps(_variances(signal, variance).log(), step, clean)
    return DiagonalGaussian(mean=_mean(signal, step, clean, noisy), log_variance=log_variance)


def bound_weights(signal: Tensor, target: Target = "eps", *, variance: Variance = "posterior") -> Tensor:
    """The factor of the squared error of a prediction, summed over its components, in each term of the bound: (steps,), nats.

    For "eps" it is beta^2 / (2 variance (1 - beta) (1 - signal)) (Ho et al. 2020, eq. 12). At step 0 it is the factor in the
    likelihood of a continuous value, without the terms that do not depend on the prediction.
    """
    clean_factor = _clean_factors(signal).square() / (2 * _variances(signal, variance))
    return clean_factor * clean_error_factor(target, signal)


def at_steps(table: Tensor, step: Step, values: Tensor) -> Tensor:
    """The entries of a (steps,) table at the step of each of `values` (B, ...), in their dtype, shaped so that they broadcast."""
    if isinstance(step, int):
        return table[step].to(values)
    return table[step.to(table.device)].to(values).view(-1, *[1] * (values.dim() - 1))


def forward_variances(signal: Tensor) -> Tensor:
    """beta_t, the variance of the noise that each step adds, (steps,)."""
    return 1 - signal / _before(signal)


def posterior_variances(signal: Tensor) -> Tensor:
    """The variance of q(x_{t-1} | x_t, x_0), (steps,). Step 0, where it would be 0, has that of step 1 (Nichol & Dhariwal 2021)."""
    variances = (1 - _before(signal)) / (1 - signal) * forward_variances(signal)
    return torch.cat([variances[1:2], variances[1:]])


def _variances(signal: Tensor, variance: Variance) -> Tensor:
    if isinstance(variance, Tensor):
        return variance
    return posterior_variances(signal) if variance == "posterior" else forward_variances(signal)


def _before(signal: Tensor) -> Tensor:
    return torch.cat([signal.new_ones(1), signal[:-1]])


def _clean_factors(signal: Tensor) -> Tensor:
    """The factor of the clean value in the mean of the posterior, (steps,)."""
    return _before(signal).sqrt() * forward_variances(signal) / (1 - signal)


def _mean(signal: Tensor, step: Step, clean: Tensor, noisy: Tensor) -> Tensor:
    noisy_factors = (1 - forward_variances(signal)).sqrt() * (1 - _before(signal)) / (1 - signal)
    return at_steps(_clean_factors(signal), step, clean) * clean + at_steps(noisy_factors, step, noisy) * noisy
