"""Nodes that train autoencoders."""

from __future__ import annotations

from typing import Annotated

from nodegraph import Help, Range, Run, Seed, node
from nodegraph_nodes.trained.models import TrainedVAE
from nodegraph_nodes.types import VAE
from nodegraph_training.nodes.inputs import Batch, Channels, Levels, Options, Rate, Steps
from nodegraph_training.types import DataSet

_CRITIC_CHANNELS = 32  # of the first layer of the discriminator
_MEASURED = 256  # pictures whose latents give the mean and the deviation


@node("TrainAutoencoder", numeric=True)
def train_autoencoder(
    data: DataSet,
    steps: Steps = 20_000,
    channels: Channels = 16,
    levels: Levels = [1, 2, 4],  # noqa: B006 (never changed)
    latent_channels: Annotated[int, Range(1, 64)] = 4,
    batch: Batch = 16,
    learning_rate: Rate = 1e-3,
    squares: Annotated[float, Range(0, 1000), Help("weight of the squared error beside the absolute one")] = 4.0,
    divergence: Annotated[float, Range(0, 1000), Help("weight of the KL divergence of Gaussian latents")] = 1e-4,
    crop: Annotated[
        int | None, Range(8, 4096), Help("side of the squares of the pictures that are learned; default: all of them")
    ] = None,
    codes: Annotated[
        int | None,
        Range(2, 65_536),
        Help("vectors of a codebook, the nearest of which replaces each cell of a latent; default: none, latents are Gaussians"),
    ] = None,
    critic: Annotated[
        int | None,
        Range(0, 10_000_000),
        Help("steps before a discriminator takes part, for sharp pictures; default: never"),
    ] = None,
    augment: Annotated[bool, Help("mirror half of the pictures, and exchange the colour channels of half of them")] = False,
    options: Options = None,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedVAE:
    """Train an autoencoder from nothing: pictures to latents and back.

    See Rombach et al. 2022, sec. 3.1. Each channel of its latents has the mean 0 and the deviation 1. With `codes`, the latents
    keep their place among the vectors, and all channels together have the deviation 1 for a denoiser.
    """
    from copy import deepcopy

    from nodegraph_diffusion.networks.vae import VAEConfig
    from nodegraph_diffusion.networks.vector_quantiser import autoencoder
    from nodegraph_diffusion.recipes.pixels import scaled, standardise
    from nodegraph_diffusion.training.losses.adversarial import PatchDiscriminator
    from nodegraph_diffusion.training.tasks.autoencoder import AutoencoderTask, Critic, ReconstructionWeights
    from nodegraph_training.training.examples import Cropped, FromPixels, pixels_of, require_crop, require_side, require_squares
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import built
    from nodegraph_training.training.sizes import sizes_of

    config = VAEConfig(
        channels=channels,
        channel_mult=tuple(levels),
        num_res_blocks=1,
        latent_channels=latent_channels,
        norm_groups=min(8, channels),
        mid_attention=False,
        scaling_factor=1.0,
        codes=codes,
    )
    pictures = data.pictures
    require_squares(pictures)
    require_side(pictures, config.factor)
    require_crop(pictures, crop, config.factor)
    model = built(lambda: autoencoder(config), seed, run)
    shown = pixels_of(pictures, range(min(8, len(pictures))))
    weights = ReconstructionWeights(squares=squares, bottleneck=divergence if codes is None else 1.0)
    judge = None
    if critic is not None:
        discriminator = built(lambda: PatchDiscriminator(channels=_CRITIC_CHANNELS, layers=2), seed, run)
        judge = Critic(discriminator=discriminator, start=critic)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, options=options)
    with run.work_folder() as folder:
        examples = FromPixels(pictures, Cropped(crop, augment))
        task = AutoencoderTask(model, weights=weights, critic=judge, sampled=shown)
        trainer = train(task, examples, how, run=run, folder=folder)
        with trainer.averaged():
            measured = (pictures.pixels(index)[None] for index in range(min(_MEASURED, len(pictures))))
            standard = (standardise if codes is None else scaled)(deepcopy(model).cpu(), measured)
        return TrainedVAE(copied(standard.state_dict()), {"config": sizes_of(standard.config), "size": pictures.side})


@node("TrainDecoder", numeric=True)
def train_decoder(
    vae: VAE,
    data: DataSet,
    steps: Steps = 2_500,
    batch: Batch = 8,
    learning_rate: Rate = 6e-4,
    options: Options = None,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedVAE:
    """Train the decoder of an autoencoder further, on latents with a little noise.

    Those that a denoiser makes have some. The encoder stays the same, and so does every latent: a denoiser for them needs no
    training.
    """
    from nodegraph_diffusion.recipes.embedded.decoder import DecoderTask
    from nodegraph_training.training.examples import FromPixels, require_side, require_squares
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import own_vae
    from nodegraph_training.training.sizes import sizes_of

    pictures, model = data.pictures, own_vae(vae, run)
    require_squares(pictures)
    require_side(pictures, model.config.factor)
    how = HowToTrain(
        steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, average=0.998, weight_decay=0.0, options=options
    )
    with run.work_folder() as folder:
        examples = FromPixels(pictures, lambda indices, pixels, generator: pixels.to(run.device))
        trainer = train(DecoderTask(model), examples, how, run=run, folder=folder)
        with trainer.averaged():
            return TrainedVAE(copied(model.state_dict()), {"config": sizes_of(model.config), "size": pictures.side})
