"""Training of a ControlNet, a copy of a UNet's encoder that learns to follow a hint (Zhang et al. 2023)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from nodegraph_diffusion.networks.controlnet import ControlNet
from nodegraph_diffusion.networks.unet import Controls, UNet
from nodegraph_diffusion.training.noising.objective import Objective
from nodegraph_diffusion.training.tasks.conditions import Condition
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents, DenoiserTask


@dataclass(frozen=True, kw_only=True)
class HintedLatents(ConditionedLatents):
    """Conditioned latents, each with a hint: pictures (B, 3, H, W) in [0, 1], `hint_scale` pixels for each cell of the latent."""

    hint: Tensor


def controlnet_of(unet: UNet, hint_scale: int = 8) -> ControlNet:
    """A ControlNet that begins as the encoder of `unet` and changes nothing (sec. 3.1). `hint_scale`: a power of 2 up to 8."""
    widths = (16, 32, 96, 256)[: hint_scale.bit_length()]
    if hint_scale not in (1, 2, 4, 8):
        raise ValueError(f"ControlNet: expected a hint_scale of 1, 2, 4 or 8, found {hint_scale}; it is that of the autoencoder")
    control = ControlNet(unet.config, widths)
    ours = control.state_dict()
    control.load_state_dict({**ours, **{name: value for name, value in unet.state_dict().items() if name in ours}})
    return control.to(next(unet.parameters()).device)


class ControlNetTask(DenoiserTask):
    """Trains a ControlNet; the UNet and the condition are frozen. The options are those of `DenoiserTask`."""

    def __init__(self, unet: UNet, control: ControlNet, condition: Condition, objective: Objective, **options: Any) -> None:
        self.control = control
        super().__init__(unet.requires_grad_(False), condition.requires_grad_(False), objective, adapter=control, **options)

    def controls(self, batch: ConditionedLatents, noisy: Tensor, steps: Tensor, context: Tensor) -> Controls:
        """The ControlNet's residuals for the hints of a batch, which is of `HintedLatents`."""
        assert isinstance(batch, HintedLatents)
        added = None if batch.added is None else batch.added.to(noisy)
        residuals: Controls = self.control(noisy, batch.hint.to(noisy), steps.float(), context, added=added)
        return residuals
