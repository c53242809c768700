"""The objective of a denoiser: how its training data becomes noisy, and the loss of what it predicts."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.training.losses.gaussian import DiagonalGaussian
from nodegraph_diffusion.training.noising.betas import Betas, make_betas, signal_shares
from nodegraph_diffusion.training.noising.steps import EvenSteps, ImportanceSteps, StepSampler
from nodegraph_diffusion.training.noising.targets import Target, add_noise, min_snr_weight, predicted_clean, training_target
from nodegraph_diffusion.training.noising.variational_bound import (
    at_steps,
    bound_weights,
    forward_variances,
    posterior,
    posterior_variances,
    reverse_step,
)

Weighting = Literal["simple", "min_snr", "bound", "hybrid"]
_BOUND_SHARE = 0.001  # lambda in eq. 16 of Nichol & Dhariwal 2021


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What a denoiser learns. The defaults are those of Stable Diffusion 1.

    - `target`: see `Target`; `error` "l1" or "l2": the mean of the absolute or the squared error.
    - `weighting` "simple": every step counts the same (Ho et al. 2020, eq. 14). "min_snr": `min_snr_weight` with `snr_cap`.
      "bound": the weights of the variational bound (ibid., eq. 12), so that the loss is its sum over the steps in nats per
      dimension, without the terms that do not depend on the network. "hybrid": the simple loss plus 0.001 of the bound, whose
      gradient reaches only the variances that the network predicts beside the target, in as many more channels (Nichol & Dhariwal
      2021, eq. 15 and 16).
    - `betas`, `steps`, `beta_start`, `beta_end`: see `make_betas`. `zero_snr`: the last step holds no signal.
    - `draw`: "even", or "importance" (see `ImportanceSteps`).
    - `levels`: of the values, for the logged bound (see `variational_bound`).

    Raises ValueError for options that exclude each other.
    """

    target: Target = "eps"
    error: Literal["l1", "l2"] = "l2"
    weighting: Weighting = "simple"
    snr_cap: float = 5.0
    betas: Betas = "scaled_linear"
    steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    zero_snr: bool = False
    draw: Literal["even", "importance"] = "even"
    levels: int | None = None

    def __post_init__(self) -> None:
        choices = {
            "target": ("eps", "x0", "v"),
            "error": ("l1", "l2"),
            "weighting": ("simple", "min_snr", "bound", "hybrid"),
            "draw": ("even", "importance"),
        }
        for name, expected in choices.items():
            if getattr(self, name) not in expected:
                raise ValueError(f"objective: expected {name} {', '.join(expected)}, found {getattr(self, name)!r}")
        if self.zero_snr and self.target == "eps":
            raise ValueError(
                "objective: expected target x0 or v with zero_snr, found eps: noise alone does not show the clean value"
            )
        if self.weighting == "bound" and self.error == "l1":
            raise ValueError("objective: expected error l2 with weighting bound, found l1; the bound's terms are squared errors")

    @classmethod
    def of(cls, schedule: NoiseSchedule, **more: Any) -> Objective:
        """The objective that a model was trained with, to train it further. `more` are other fields."""
        return cls(
            target=schedule.prediction,
            steps=schedule.steps,
            beta_start=schedule.beta_start,
            beta_end=schedule.beta_end,
            zero_snr=schedule.zero_snr,
            **more,
        )

    def signal(self) -> Tensor:
        """The signal's share of the variance at each step, (steps,) float64."""
        betas = make_betas(self.betas, self.steps, start=self.beta_start, end=self.beta_end)
        return signal_shares(betas, zero_snr=self.zero_snr)


@dataclass(frozen=True, kw_only=True)
class NoisyBatch:
    """Values (B, ...) with noise, and what the loss needs: `steps` (B,) int64 and `weights` (B,) of the way these were drawn."""

    clean: Tensor
    noise: Tensor
    noisy: Tensor
    steps: Tensor
    weights: Tensor


class DenoisingLoss:
    """Makes batches noisy and computes the loss of an objective."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.signal = objective.signal()
        self.step_sampler: StepSampler = (
            ImportanceSteps(objective.steps) if objective.draw == "importance" else EvenSteps(objective.steps)
        )
        self._bound_weights = bound_weights(self.signal, objective.target)
        last = self.signal[-1]
        self._prior = DiagonalGaussian(mean=last.sqrt(), log_variance=(1 - last).log())

    def add_noise(self, clean: Tensor, generator: torch.Generator) -> NoisyBatch:
        """`clean` (B, ...) with noise of steps that are drawn for each."""
        steps, weights = self.step_sampler.draw(len(clean), generator)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        noisy = add_noise(clean, noise, at_steps(self.signal, steps, clean))
        return NoisyBatch(clean=clean, noise=noise, noisy=noisy, steps=steps.to(clean.device), weights=weights.to(clean))

    def __call__(self, batch: NoisyBatch, predicted: Tensor) -> Tensor:
        """The loss of a prediction, a scalar. Predictions have twice the channels, (B, 2 c, ...), if the weighting is "hybrid"."""
        objective = self.objective
        predicted, variances = self._split(predicted.float())
        signal = at_steps(self.signal, batch.steps, batch.clean)
        target = training_target(objective.target, clean=batch.clean, noise=batch.noise, signal=signal)
        difference = predicted - target
        error = (difference.abs() if objective.error == "l1" else difference.square()).flatten(1).mean(1)
        if objective.weighting == "min_snr":
            error = error * min_snr_weight(objective.target, signal, objective.snr_cap).flatten()
        elif objective.weighting == "bound":
            error = error * objective.steps * at_steps(self._bound_weights, batch.steps, error)
        elif objective.weighting == "hybrid":
            error = error + _BOUND_SHARE * objective.steps * self._terms(batch, predicted.detach(), variances)
        self.step_sampler.learn(batch.steps, error)
        return (batch.weights * error).mean()

    @torch.no_grad()
    def bits_per_dimension(self, batch: NoisyBatch, predicted: Tensor) -> Tensor:
        """An unbiased estimate of the variational bound from one prediction, a scalar: one of its terms for each of the batch.

        Its mean over many batches is that of `variational_bound` (Ho et al. 2020, eq. 5).
        """
        predicted, variances = self._split(predicted.float())
        terms = self.objective.steps * self._terms(batch, predicted, variances)
        mean, log_variance = float(self._prior.mean), float(self._prior.log_variance)
        prior = DiagonalGaussian(mean=mean * batch.clean, log_variance=torch.full_like(batch.clean, log_variance))
        last = prior.kl_from_standard() / batch.clean[0].numel()
        return (batch.weights * terms + last).mean() / math.log(2)

    def _terms(self, batch: NoisyBatch, predicted: Tensor, variances: Tensor | None) -> Tensor:
        """The term of the bound at the step of each of a batch, in nats per dimension: (B,)."""
        signal, steps = self.signal, batch.steps
        here = at_steps(signal, steps, batch.clean)
        clean = predicted_clean(self.objective.target, predicted, noisy=batch.noisy, signal=here)
        model = reverse_step(signal, steps, clean=clean, noisy=batch.noisy)
        if variances is not None:
            model = DiagonalGaussian(mean=model.mean, log_variance=self._learned(variances, steps))
        divergence = posterior(signal, steps, clean=batch.clean, noisy=batch.noisy).kl(model)
        levels = self.objective.levels
        last = model.nll(batch.clean) if levels is None else model.discretised_nll(batch.clean, levels)
        return torch.where(steps == 0, last, divergence) / batch.clean[0].numel()

    def _learned(self, variances: Tensor, steps: Tensor) -> Tensor:
        """Log-variances between that of the posterior (at -1) and that of the forward step (at 1), ibid., eq. 15."""
        least = at_steps(posterior_variances(self.signal).log(), steps, variances)
        most = at_steps(forward_variances(self.signal).log(), steps, variances)
        return least + (variances + 1) / 2 * (most - least)

    def _split(self, predicted: Tensor) -> tuple[Tensor, Tensor | None]:
        if self.objective.weighting != "hybrid":
            return predicted, None
        values, variances = predicted.chunk(2, dim=1)
        return values, variances
