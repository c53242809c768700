"""Nodes that train denoisers."""

from __future__ import annotations

from typing import Annotated

from nodegraph import Help, Run, Seed, node
from nodegraph_nodes.trained.models import TrainedUNet
from nodegraph_nodes.types import VAE, TextEncoder, UNetModel
from nodegraph_training.nodes.inputs import Batch, Channels, Dropout, Levels, Options, Rate, Steps, Weights
from nodegraph_training.types import DataSet


@node("TrainDenoiser", numeric=True)
def train_denoiser(
    data: DataSet,
    vae: VAE,
    text_encoder: TextEncoder,
    steps: Steps = 20_000,
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
    """Train a UNet to denoise the latents of pictures under their captions.

    See Ho et al. 2020 and Rombach et al. 2022. A new one predicts the velocity. Give the result to `UNetDenoise`.
    """
    from nodegraph_diffusion.networks.unet import UNet, UNetConfig
    from nodegraph_diffusion.noise_schedule import NoiseSchedule
    from nodegraph_diffusion.training.tasks.denoiser import DenoiserTask
    from nodegraph_training.training.denoising import network_settings, objective_of, prepare
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import built, own_unet

    if unet is None:
        config = UNetConfig(
            in_channels=vae.part.config.latent_channels,
            out_channels=vae.part.config.latent_channels,
            model_channels=channels,
            channel_mult=tuple(levels),
            num_res_blocks=1,
            transformer_depth=tuple(depth),
            num_heads=4,
            context_dim=sum(part.config.width for part in text_encoder.parts),
            norm_groups=min(16, channels),
        )
        noise_schedule = NoiseSchedule(prediction="v")
        network, kind = built(lambda: UNet(config), seed, run), "sd1"
    else:
        network, noise_schedule, kind = own_unet(unet, run).requires_grad_(True), unet.part.noise_schedule, unet.part.kind
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, options=options)
    with run.work_folder() as folder:
        prepared = prepare(data.pictures, vae, text_encoder, network, run=run, folder=folder)
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
                copied(network.state_dict()),
                {"kind": kind, **network_settings(network.config, noise_schedule, vae.part.config.latent)},
            )
