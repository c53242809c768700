"""Nodes that train denoisers."""

from __future__ import annotations

from typing import Annotated, NamedTuple

from nodegraph import Help, Range, Run, Seed, node
from nodegraph_nodes.trained.models import TrainedTextEncoder, TrainedUNet
from nodegraph_nodes.types import VAE, TextEncoder, UNetModel
from nodegraph_training.nodes.inputs import Batch, Channels, Depth, Dropout, Levels, Options, Rate, Steps, Weights
from nodegraph_training.types import ConditionKind, DataSet

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
    depth: Depth = [0, 1],  # noqa: B006 (never changed)
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
    `TrainDenoiserAndText` trains the text encoder, too.
    """
    from nodegraph_training.training.denoising import Parts, prepare
    from nodegraph_training.training.loop import HowToTrain
    from nodegraph_training.training.unets import UNetSizes, new_unet, train_unet, unet_to_train

    parts = Parts(vae=vae, text_encoder=text_encoder, kind=condition)
    if unet is None:
        sizes = UNetSizes(channels=channels, levels=levels, depth=depth)
        learner = new_unet(data.pictures, parts, sizes, seed=seed, run=run)
    else:
        learner = unet_to_train(unet, parts, run)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, options=options)
    with run.work_folder() as folder:
        prepared = prepare(data.pictures, parts, learner.network, run=run, folder=folder)
        trainer = train_unet(learner, prepared, how, weighting=weighting, dropout=dropout, run=run, folder=folder)
        with trainer.averaged():
            return learner.trained()


class DenoiserAndText(NamedTuple):
    """A UNet and the text encoder that was trained with it."""

    unet: TrainedUNet
    text_encoder: TrainedTextEncoder


@node("TrainDenoiserAndText", numeric=True)
def train_denoiser_and_text(
    data: DataSet,
    vae: VAE,
    steps: Steps = 20_000,
    causal: Annotated[bool, Help("each word attends only to those before it, as in CLIP; default: to all, as in BERT")] = False,
    width: Annotated[int, Range(8, 4096), Help("of the text encoder; a multiple of 4")] = 128,
    layers: Annotated[int, Range(1, 64), Help("of the text encoder")] = 3,
    max_length: Annotated[int, Range(8, 512), Help("tokens that the text encoder reads at once")] = 40,
    channels: Channels = 64,
    levels: Levels = [1, 2],  # noqa: B006 (never changed)
    depth: Depth = [0, 1],  # noqa: B006 (never changed)
    batch: Batch = 32,
    learning_rate: Rate = 5e-4,
    weighting: Weights = "min_snr",
    dropout: Dropout = 0.1,
    options: Options = None,
    seed: Seed = 0,
    run: Run = Run(),
) -> DenoiserAndText:
    """Train a UNet and a text encoder together, both from nothing.

    The text encoder learns from the denoising alone, as in Rombach et al. 2022, sec. 4.3.1. The vocabulary has each word of the
    captions. To train the UNet further with `TrainDenoiser`, give it both results.
    """
    from nodegraph_training.training.denoising import prepare_with_tokens
    from nodegraph_training.training.loop import HowToTrain
    from nodegraph_training.training.texts import TextSizes, new_text_encoder
    from nodegraph_training.training.unets import UNetSizes, new_unet_for_text, train_unet

    sizes = UNetSizes(channels=channels, levels=levels, depth=depth)
    text_sizes = TextSizes(width=width, layers=layers, max_length=max_length, causal=causal)
    text = new_text_encoder(data.pictures, text_sizes, seed=seed, run=run)
    learner = new_unet_for_text(vae.part.config.latent, width, sizes, seed=seed, run=run)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, options=options)
    with run.work_folder() as folder:
        prepared = prepare_with_tokens(data.pictures, vae, text.reader, run=run, folder=folder)
        trainer = train_unet(learner, prepared, how, weighting=weighting, dropout=dropout, run=run, folder=folder)
        with trainer.averaged():
            return DenoiserAndText(learner.trained(), text.trained())
