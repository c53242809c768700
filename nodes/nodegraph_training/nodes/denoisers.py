"""Nodes that train denoisers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Any

from nodegraph import Help, Run, Seed, node
from nodegraph_nodes.trained.models import TrainedUNet
from nodegraph_nodes.types import VAE, TextEncoder, UNetModel
from nodegraph_training.nodes.inputs import Batch, Channels, Dropout, Levels, Options, Rate, Steps, Weights
from nodegraph_training.types import ConditionKind, DataSet

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.config import UNetConfig

Conditions = Annotated[
    ConditionKind,
    Help(
        "what the pictures are learned with. text: captions; none: nothing; class: their class; layout: things in boxes; "
        "map: a map of classes; half, quarter: a picture of half or a quarter of the side, which is enlarged"
    ),
]


@node("TrainDenoiser", numeric=True)
def train_denoiser(
    data: DataSet,
    vae: Annotated[VAE | None, Help("default: none, the pixels themselves are denoised")] = None,
    text_encoder: Annotated[TextEncoder | None, Help("for captions")] = None,
    steps: Steps = 20_000,
    condition: Conditions = "text",
    unet: Annotated[UNetModel | None, Help("train this one further, instead of a new one of the sizes below")] = None,
    channels: Channels = 64,
    levels: Levels = [1, 2],  # noqa: B006 (never changed)
    depth: Annotated[list[int], Help("transformers after each block of a level")] = [0, 1],  # noqa: B006 (never changed)
    batch: Batch = 32,
    learning_rate: Rate = 5e-4,
    weighting: Weights = "min_snr",
    dropout: Dropout = 0.1,
    options: Options = None,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedUNet:
    """Train a UNet to denoise pictures under their captions or other conditions.

    See Ho et al. 2020 and Rombach et al. 2022. A new one predicts the velocity. Give the result to `UNetDenoise`. Other conditions
    than text are given by `LabelCondition`, `NoCondition`, `ApplyMap` and `ApplySmallPicture`; boxes and maps are those of
    `PictureWorld`. Without a `vae`, `EmptyPixels` makes what sampling begins with, and `PixelsToImage` the picture.
    """
    from nodegraph_diffusion.networks.unet import UNet, UNetConfig
    from nodegraph_diffusion.noise_schedule import NoiseSchedule
    from nodegraph_diffusion.training.tasks.denoiser import DenoiserTask
    from nodegraph_training.training.conditions import config_of
    from nodegraph_training.training.denoising import Prepared, network_settings, objective_of, prepare, prepare_without_text
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import built, own_unet
    from nodegraph_training.training.sizes import PIXELS

    pictures, latent = data.pictures, PIXELS if vae is None else vae.part.config.latent
    if condition == "text" and (text_encoder is None or vae is None):
        raise ValueError("condition: expected a text_encoder and a vae for captions, found one of them missing; give both")
    if unet is None:
        if text_encoder is not None and condition == "text":
            received: dict[str, Any] = {"context_dim": sum(part.config.width for part in text_encoder.parts)}
        else:
            received = config_of(condition, pictures, latent, channels)
        config = UNetConfig(
            out_channels=latent.channels,
            model_channels=channels,
            channel_mult=tuple(levels),
            num_res_blocks=1,
            transformer_depth=tuple(depth),
            num_heads=4,
            norm_groups=math.gcd(16, channels),
            **{"in_channels": latent.channels, **received},
        )
        noise_schedule = NoiseSchedule(prediction="v")
        network, kind = built(lambda: UNet(config), seed, run), "sd1"
    else:
        network, noise_schedule, kind = own_unet(unet, run).requires_grad_(True), unet.part.noise_schedule, unet.part.kind
        _require_condition(network.config, condition, latent.factor)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, options=options)
    with run.work_folder() as folder:
        if text_encoder is not None and vae is not None and condition == "text":
            prepared: Prepared[Any] = prepare(pictures, vae, text_encoder, network, run=run, folder=folder)
        else:
            prepared = prepare_without_text(pictures, vae, network, condition, run=run, folder=folder)
        task = DenoiserTask(
            network,
            prepared.condition,
            objective_of(noise_schedule, weighting),
            dropout=dropout,
            log_bound=False,
            sampled=prepared.sampled,
        )
        trainer = train(task, prepared.examples, how, run=run, folder=folder)
        with trainer.averaged():
            return TrainedUNet(
                copied(network.state_dict()), {"kind": kind, **network_settings(network.config, noise_schedule, latent)}
            )


def _require_condition(config: UNetConfig, condition: ConditionKind, factor: int) -> None:
    """Raise ValueError if a UNet was trained with another condition."""
    from nodegraph_training.training.conditions import kind_of

    found = kind_of(config, factor, text=condition == "text")
    if found != condition:
        raise ValueError(f"condition: expected '{found}', with which this UNet was trained, found '{condition}'")
