"""Nodes that train the networks of a model."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from nodegraph import Help, Range, Run, Seed, node
from nodegraph_nodes.trained.opened import opened_text_encoder, opened_unet, opened_vae
from nodegraph_nodes.types import AnyTextEncoder, AnyUNet, AnyVAE, TrainedTextEncoder, TrainedUNet, TrainedVAE
from nodegraph_training.nodes.adapters import Batch, Dropout, Rate, Steps, Weights
from nodegraph_training.types import DataSet, TrainedClassifier, TrainedImageEncoder

Channels = Annotated[int, Range(8, 4096), Help("channels of the first level; a multiple of 8")]
Levels = Annotated[list[int], Help("channels of each level, as multiples of those of the first; each has half the side")]
WarmUp = Annotated[int, Range(0, 1_000_000), Help("steps in which the learning rate rises")]

_MEASURED = 256  # pictures whose latents give the scaling factor


@node("TrainAutoencoder", numeric=True)
def train_autoencoder(
    data: DataSet,
    steps: Steps = 20_000,
    channels: Channels = 16,
    levels: Levels = [1, 2, 4],  # noqa: B006 (never changed)
    latent_channels: Annotated[int, Range(1, 64)] = 4,
    batch: Batch = 16,
    learning_rate: Rate = 1e-3,
    warm_up: WarmUp = 0,
    squares: Annotated[float, Range(0, 1000), Help("weight of the squared error beside the absolute one")] = 4.0,
    divergence: Annotated[float, Range(0, 1000), Help("weight of the KL divergence")] = 1e-4,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedVAE:
    """Train an autoencoder from nothing: pictures to latents and back.

    See Rombach et al. 2022, sec. 3.1. Its latents are scaled to unit variance.
    """
    from dataclasses import replace

    import torch

    from nodegraph_diffusion.networks.vae import AutoencoderKL, VAEConfig
    from nodegraph_diffusion.training.noising.latent_scale import scaling_factor
    from nodegraph_diffusion.training.tasks.autoencoder import AutoencoderTask, ReconstructionWeights
    from nodegraph_training.training.examples import FromPixels, pixels_of, require_side
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
    )
    pictures = data.pictures
    require_side(pictures, config.factor)
    model = built(lambda: AutoencoderKL(config), seed, run)
    shown = pixels_of(pictures, range(min(8, len(pictures))))
    weights = ReconstructionWeights(squares=squares, bottleneck=divergence)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, warm_up=warm_up)
    with run.work_folder() as folder:
        trainer = train(AutoencoderTask(model, weights=weights, sampled=shown), FromPixels(pictures), how, run=run, folder=folder)
        with trainer.averaged(), torch.no_grad():
            measured = (
                model.encode(pixels_of(pictures, [index]).to(run.device))[0] for index in range(min(_MEASURED, len(pictures)))
            )
            config = replace(config, scaling_factor=scaling_factor(measured))
            return TrainedVAE(copied(model.state_dict()), {"config": sizes_of(config), "size": pictures.side})


class Clip(NamedTuple):
    """Both encoders of CLIP."""

    text_encoder: TrainedTextEncoder
    image_encoder: TrainedImageEncoder


@node("TrainCLIP", numeric=True)
def train_clip(
    data: DataSet,
    steps: Steps = 5_000,
    width: Annotated[int, Range(8, 4096), Help("of both encoders; a multiple of 4")] = 128,
    layers: Annotated[int, Range(1, 64)] = 3,
    patch: Annotated[int, Range(1, 512), Help("side of the patches of a picture, in pixels")] = 8,
    max_length: Annotated[int, Range(8, 512), Help("tokens that the text encoder reads at once")] = 32,
    batch: Batch = 64,
    learning_rate: Rate = 1e-3,
    warm_up: WarmUp = 0,
    seed: Seed = 0,
    run: Run = Run(),
) -> Clip:
    """Train a text encoder and an image encoder from nothing.

    A picture and its caption get similar embeddings (Radford et al. 2021). The vocabulary has each word of the captions.
    """
    import torch

    from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel, CLIPVisionConfig, CLIPVisionModel
    from nodegraph_diffusion.training.tasks.clip import CLIPTask
    from nodegraph_training.training.examples import CaptionedPixels
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import built, tokenizer_of
    from nodegraph_training.training.sizes import sizes_of
    from nodegraph_training.training.vocabulary import vocabulary_files

    pictures = data.pictures
    files = vocabulary_files(pictures.words(), max_length)
    tokenizer = tokenizer_of(files)
    sizes: dict[str, Any] = {"width": width, "layers": layers, "heads": 4, "mlp_width": 4 * width, "projection": width}
    text_config = CLIPTextConfig(vocab_size=tokenizer.vocab_size, max_length=max_length, eos=tokenizer.eos, **sizes)
    image_config = CLIPVisionConfig(size=pictures.side, patch=patch, **sizes)
    text, image = built(lambda: (CLIPTextModel(text_config), CLIPVisionModel(image_config)), seed, run)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, warm_up=warm_up)
    with run.work_folder() as folder:
        trainer = train(CLIPTask(image, text), CaptionedPixels(pictures, tokenizer), how, run=run, folder=folder)
        with trainer.averaged(), torch.no_grad():
            return Clip(
                TrainedTextEncoder(copied(text.state_dict()), {"config": sizes_of(text_config), "tokenizer": files}),
                TrainedImageEncoder(copied(image.state_dict()), {"config": sizes_of(image_config)}),
            )


@node("TrainDenoiser", numeric=True)
def train_denoiser(
    data: DataSet,
    vae: AnyVAE,
    text_encoder: AnyTextEncoder,
    steps: Steps = 20_000,
    unet: Annotated[AnyUNet | None, Help("train this one further, instead of a new one of the sizes below")] = None,
    channels: Channels = 64,
    levels: Levels = [1, 2],  # noqa: B006 (never changed)
    depth: Annotated[list[int], Help("transformers after each block of a level")] = [0, 1],  # noqa: B006 (never changed)
    batch: Batch = 32,
    learning_rate: Rate = 5e-4,
    warm_up: WarmUp = 0,
    weighting: Weights = "min_snr",
    dropout: Dropout = 0.1,
    average: Annotated[float, Range(0, 0.99999), Help("largest decay of the moving average of the weights")] = 0.999,
    recompute: Annotated[bool, Help("much less memory for a third more time")] = False,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedUNet:
    """Train a UNet to denoise the latents of pictures under their captions.

    See Ho et al. 2020 and Rombach et al. 2022. A new one predicts the velocity. Give the result to `UNetDenoise`.
    """
    from nodegraph_diffusion.networks.unet import UNet, UNetConfig
    from nodegraph_diffusion.noise_schedule import NoiseSchedule
    from nodegraph_diffusion.training.tasks.denoiser import DenoiserTask
    from nodegraph_training.training.denoising import objective_of, prepare, unet_settings
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import built, own_unet

    coder, text = opened_vae(vae), opened_text_encoder(text_encoder)
    if unet is None:
        config = UNetConfig(
            in_channels=coder.part.config.latent_channels,
            out_channels=coder.part.config.latent_channels,
            model_channels=channels,
            channel_mult=tuple(levels),
            num_res_blocks=1,
            transformer_depth=tuple(depth),
            num_heads=4,
            context_dim=sum(part.config.width for part in text.parts),
            norm_groups=min(16, channels),
        )
        schedule = NoiseSchedule(prediction="v")
        network, kind = built(lambda: UNet(config), seed, run), "sd1"
    else:
        model = opened_unet(unet)
        network, schedule, kind = own_unet(model, run).requires_grad_(True), model.part.noise_schedule, model.part.kind
    how = HowToTrain(
        steps=steps,
        batch=batch,
        learning_rate=learning_rate,
        seed=seed,
        warm_up=warm_up,
        average=average,
        others={"recompute": recompute},
    )
    with run.work_folder() as folder:
        prepared = prepare(data.pictures, coder, text, added_dim=network.config.added_dim, run=run, folder=folder)
        task = DenoiserTask(
            network,
            prepared.condition,
            objective_of(schedule, weighting),
            dropout=dropout,
            log_bound=False,
            sampled=prepared.sampled,
        )
        trainer = train(task, prepared.examples, how, run=run, folder=folder)
        with trainer.averaged():
            return TrainedUNet(
                copied(network.state_dict()), unet_settings(network.config, schedule, coder.part.config.latent, kind)
            )


@node("TrainClassifier", numeric=True)
def train_classifier(
    data: DataSet,
    vae: AnyVAE,
    steps: Steps = 5_000,
    channels: Channels = 32,
    levels: Levels = [1, 2],  # noqa: B006 (never changed)
    batch: Batch = 32,
    learning_rate: Rate = 5e-4,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedClassifier:
    """Train a classifier of noisy latents, for guidance by a classifier.

    See Dhariwal & Nichol 2021, sec. 4.
    The class of a picture is its one thing (`PictureWorld` with `things: 1`), or the folder that it is in (`ImageFolder`).
    """
    from nodegraph_diffusion.networks.classifier import NoisyClassifier
    from nodegraph_diffusion.networks.unet import UNetConfig
    from nodegraph_diffusion.noise_schedule import NoiseSchedule
    from nodegraph_diffusion.training.tasks.classifier import ClassifierTask
    from nodegraph_training.training.denoising import objective_of
    from nodegraph_training.training.examples import LabelledLatents, class_names, latents_of, require_side
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import built, own_vae
    from nodegraph_training.training.sizes import sizes_of

    pictures, coder = data.pictures, own_vae(opened_vae(vae), run)
    require_side(pictures, coder.config.factor)
    labels, names = class_names(pictures)
    config = UNetConfig(
        in_channels=coder.config.latent_channels,
        model_channels=channels,
        channel_mult=tuple(levels),
        num_res_blocks=1,
        transformer_depth=(0,) * len(levels),
        middle_depth=0,
        norm_groups=min(16, channels),
    )
    classifier = built(lambda: NoisyClassifier(config, len(names)), seed, run)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed)
    with run.work_folder() as folder:
        latents = latents_of(pictures, coder, folder)
        task = ClassifierTask(classifier, objective_of(NoiseSchedule(prediction="v"), "simple"))
        trainer = train(task, LabelledLatents(latents, labels), how, run=run, folder=folder)
        with trainer.averaged():
            return TrainedClassifier(copied(classifier.state_dict()), {"config": sizes_of(config), "classes": names})
