"""UNets in training: new ones, and ones that are trained further."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nodegraph.plugin_api import dataclass
from nodegraph_diffusion.networks.unet import UNet, UNetConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.training.tasks.denoiser import DenoiserTask
from nodegraph_nodes.trained.models import TrainedUNet
from nodegraph_training.training.conditions import config_of, kind_of
from nodegraph_training.training.denoising import Parts, Prepared, Weighting, network_settings, objective_of
from nodegraph_training.training.loop import HowToTrain, copied, train
from nodegraph_training.training.networks import built, own_unet

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_diffusion.networks.config import LatentSpace
    from nodegraph_diffusion.training.loop.trainer import Trainer
    from nodegraph_nodes.types import UNetModel
    from nodegraph_training.types import Pictures

_HEADS = 4


@dataclass(frozen=True, kw_only=True)
class UNetSizes:
    """Sizes of a new UNet: channels of its first level; those of each level, as multiples; transformers after each block of one."""

    channels: int
    levels: Sequence[int]
    depth: Sequence[int]


@dataclass(frozen=True, kw_only=True)
class Learner:
    """A UNet to train, the noise that it learns to remove, and the latents that it knows."""

    network: UNet
    noise_schedule: NoiseSchedule
    latent: LatentSpace
    kind: str = "sd1"

    def trained(self) -> TrainedUNet:
        """What it has learned so far, as the output of a node."""
        settings = network_settings(self.network.config, self.noise_schedule, self.latent)
        return TrainedUNet(copied(self.network.state_dict()), {"kind": self.kind, **settings})


def new_unet(pictures: Pictures, parts: Parts, sizes: UNetSizes, *, seed: int, run: Run) -> Learner:
    """A new UNet for these pictures and conditions, which predicts the velocity."""
    if parts.kind == "text" and parts.text_encoder is not None:
        width = sum(part.config.width for part in parts.text_encoder.parts)
        return new_unet_for_text(parts.latent, width, sizes, seed=seed, run=run)
    received = config_of(parts.kind, pictures, parts.latent, sizes.channels)
    return _new(parts.latent, sizes, received, seed=seed, run=run)


def new_unet_for_text(latent: LatentSpace, width: int, sizes: UNetSizes, *, seed: int, run: Run) -> Learner:
    """A new UNet for the output of a text encoder of this width, which predicts the velocity."""
    return _new(latent, sizes, {"context_dim": width}, seed=seed, run=run)


def _new(latent: LatentSpace, sizes: UNetSizes, received: dict[str, Any], *, seed: int, run: Run) -> Learner:
    """`received` is what its config says about its conditions."""
    config = UNetConfig(
        out_channels=latent.channels,
        model_channels=sizes.channels,
        channel_mult=tuple(sizes.levels),
        num_res_blocks=1,
        transformer_depth=tuple(sizes.depth),
        num_heads=_HEADS,
        norm_groups=math.gcd(16, sizes.channels),
        **{"in_channels": latent.channels, **received},
    )
    network = built(lambda: UNet(config), seed, run)
    return Learner(network=network, noise_schedule=NoiseSchedule(prediction="v"), latent=latent)


def unet_to_train(unet: UNetModel, parts: Parts, run: Run) -> Learner:
    """A copy of a UNet that is trained further. Raises ValueError if it was trained with another condition."""
    network = own_unet(unet, run).requires_grad_(True)
    found = kind_of(network.config, parts.latent.factor, text=parts.kind == "text")
    if found != parts.kind:
        raise ValueError(f"condition: expected '{found}', with which this UNet was trained, found '{parts.kind}'")
    return Learner(network=network, noise_schedule=unet.part.noise_schedule, latent=parts.latent, kind=unet.part.kind)


def train_unet(
    learner: Learner,
    prepared: Prepared[Any],
    how: HowToTrain,
    *,
    weighting: Weighting,
    dropout: float,
    run: Run,
    folder: Path,
) -> Trainer[Any]:
    """Train a UNet, and what its condition has to train, to the last step."""
    task = DenoiserTask(
        learner.network,
        prepared.condition,
        objective_of(learner.noise_schedule, weighting),
        dropout=dropout,
        log_bound=False,
        sampled=prepared.sampled,
    )
    return train(task, prepared.examples, how, run=run, folder=folder)
