"""Training of a denoiser: a UNet that predicts what noise hides, given a condition (Ho et al. 2020; Rombach et al. 2022)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from nodegraph_diffusion.networks.unet import Controls, UNet
from nodegraph_diffusion.training.loop.seeds import generator_for
from nodegraph_diffusion.training.loop.task import Losses, Moment, Task, TrainedNetwork
from nodegraph_diffusion.training.noising.objective import DenoisingLoss, Objective
from nodegraph_diffusion.training.noising.steps import ImportanceSteps
from nodegraph_diffusion.training.noising.targets import predicted_clean
from nodegraph_diffusion.training.tasks.conditions import Condition


@dataclass(frozen=True, kw_only=True)
class ConditionedLatents:
    """Latents (B, c, h, w) of unit variance, and the condition of each: (B, ...), what the task's `Condition` receives.

    `added` is the vector conditioning (B, added_dim) of a UNet that has one, such as Stable Diffusion XL's; `added_dropped` is that
    of examples without a condition (None: the same). `beside` are the channels (B, C, h, w) that the UNet receives beside the
    latent.
    """

    latent: Tensor
    condition: Tensor
    added: Tensor | None = None
    added_dropped: Tensor | None = None
    beside: Tensor | None = None


@dataclass(frozen=True, kw_only=True)
class DenoiserSamples:
    """What to sample during training: a picture for each condition, of latents of `shape` (c, h, w), in `steps` steps.

    `decode` makes pixels (B, 3, H, W) from latents. `added` is the vector conditioning of each, and `beside` its channels beside
    the latent, for a UNet that has them.
    """

    conditions: Tensor
    shape: tuple[int, int, int]
    decode: Callable[[Tensor], Tensor]
    added: Tensor | None = None
    beside: Tensor | None = None
    steps: int = 20
    seed: int = 0


class DenoiserTask(Task[ConditionedLatents]):
    """Trains a UNet, and what its condition has to train. `dropout`: the share of examples that receive no condition.

    A conditioning dropout of 0.1 is what guidance without a classifier needs (Ho & Salimans 2022, sec. 3.2). `adapter` is trained,
    too, such as a LoRA of the UNet; freeze the UNet to train the adapter alone. `log_bound`: log an estimate of the variational
    bound, in bits per dimension.
    """

    def __init__(
        self,
        unet: UNet,
        condition: Condition,
        objective: Objective,
        *,
        adapter: nn.Module | None = None,
        dropout: float = 0.1,
        log_bound: bool = True,
        sampled: DenoiserSamples | None = None,
    ) -> None:
        self.unet, self.condition, self.loss = unet, condition, DenoisingLoss(objective)
        self._dropout, self._log_bound, self._sampled = dropout, log_bound, sampled
        modules: dict[str, nn.Module] = {"unet": unet, "condition": condition}
        if adapter is not None:
            modules["adapter"] = adapter
        self._networks = {"denoiser": TrainedNetwork(module=nn.ModuleDict(modules), called=(unet,))}

    @property
    def networks(self) -> Mapping[str, TrainedNetwork]:
        """The UNet and its condition, which share an optimiser."""
        return self._networks

    def losses(self, batch: ConditionedLatents, moment: Moment) -> Losses:
        """The objective's loss for the prediction from noisy latents."""
        device = next(self.unet.parameters()).device
        noisy = self.loss.add_noise(batch.latent.to(device), moment.generator)
        dropped = torch.rand(len(batch.latent), generator=moment.generator) < self._dropout
        added = batch.added
        if added is not None and batch.added_dropped is not None:
            added = torch.where(dropped[:, None], batch.added_dropped, added)
        added = None if added is None else added.to(device)
        context, added = self.condition.inputs(batch.condition.to(device), dropped.to(device), added)
        controls = self.controls(replace(batch, added=added), noisy.noisy, noisy.steps, context)
        seen = with_channels(noisy.noisy, batch.beside)
        predicted = self.unet(seen, noisy.steps.float(), context, added=added, controls=controls).float()
        loss = self.loss(noisy, predicted)
        figures = {"bits_per_dimension": self.loss.bits_per_dimension(noisy, predicted)} if self._log_bound else {}
        return Losses(by_network={"denoiser": loss}, figures=figures)

    def controls(self, batch: ConditionedLatents, noisy: Tensor, steps: Tensor, context: Tensor) -> Controls | None:
        """Residuals for the UNet. There are none, except in the training of a ControlNet."""
        return None

    def samples(self) -> Tensor | None:
        """Pictures of the conditions to sample, by DDIM without guidance, always from the same noise."""
        if (sampled := self._sampled) is None:
            return None
        device = next(self.unet.parameters()).device
        noise = torch.randn(len(sampled.conditions), *sampled.shape, generator=generator_for(sampled.seed, "samples"))
        conditions = sampled.conditions.to(device)
        context = self.condition(conditions, torch.zeros(len(conditions), dtype=torch.bool, device=device))

        added = None if sampled.added is None else sampled.added.to(device)

        def predict(noisy: Tensor, step: int) -> Tensor:
            seen = with_channels(noisy, sampled.beside)
            predicted: Tensor = self.unet(seen, torch.full((len(noisy),), float(step), device=device), context, added=added)
            return predicted[:, : noise.shape[1]].float()

        return sampled.decode(ddim(predict, noise.to(device), self.loss, sampled.steps))

    def state_dict(self) -> dict[str, Tensor]:
        """The losses of each step, if steps are drawn by importance."""
        sampler = self.loss.step_sampler
        return sampler.state_dict() if isinstance(sampler, ImportanceSteps) else {}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Continue from the result of `state_dict`."""
        if isinstance(self.loss.step_sampler, ImportanceSteps):
            self.loss.step_sampler.load_state_dict(dict(state))


def with_channels(noisy: Tensor, beside: Tensor | None) -> Tensor:
    """What a UNet sees: the noisy latents (B, c, h, w), and the channels beside them, if there are any."""
    return noisy if beside is None else torch.cat([noisy, beside.to(noisy)], dim=1)


@torch.no_grad()
def ddim(predict: Callable[[Tensor, int], Tensor], noise: Tensor, loss: DenoisingLoss, steps: int) -> Tensor:
    """A clean latent from noise (B, ...) by deterministic DDIM (Song et al. 2021, eq. 12 with sigma 0), for any objective.

    `predict` receives the noisy latent and the training step.
    """
    signal, target, x = loss.signal.float(), loss.objective.target, noise
    indices = torch.linspace(len(signal) - 1, 0, steps).round().long().tolist()
    for index, following in zip(indices, [*indices[1:], None], strict=True):
        here, after = signal[index], signal[following] if following is not None else torch.ones(())
        clean = predicted_clean(target, predict(x, index), noisy=x, signal=here)
        remaining_noise = (x - here.sqrt() * clean) / (1 - here).sqrt()
        x = after.sqrt() * clean + (1 - after).sqrt() * remaining_noise
    return x
