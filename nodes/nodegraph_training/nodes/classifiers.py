"""Nodes for guidance by networks that rate pictures: classifiers of noisy latents, and CLIP."""

from __future__ import annotations

import dataclasses
import math
from typing import Annotated, Literal

from nodegraph import Help, Range, Run, Seed, node
from nodegraph_nodes.types import VAE, Denoiser, TextEncoder
from nodegraph_training.nodes.inputs import Batch, Channels, Levels, Options, Rate, Steps
from nodegraph_training.types import DataSet, TrainedClassifier, TrainedImageEncoder


@node("TrainClassifier", numeric=True)
def train_classifier(
    data: DataSet,
    vae: VAE,
    steps: Steps = 5_000,
    channels: Channels = 32,
    levels: Levels = [1, 2],  # noqa: B006 (never changed)
    batch: Batch = 32,
    learning_rate: Rate = 5e-4,
    options: Options = None,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedClassifier:
    """Train a classifier of noisy latents.

    See Dhariwal & Nichol 2021, sec. 4. Give the result to `ClassifierGuidance`.
    The class of a picture is what `classes` of `PictureWorld` says, or the folder that it is in (`ImageFolder`).
    """
    from nodegraph_diffusion.networks.classifier import NoisyClassifier
    from nodegraph_diffusion.networks.unet import UNetConfig
    from nodegraph_diffusion.noise_schedule import NoiseSchedule
    from nodegraph_diffusion.training.tasks.classifier import ClassifierTask
    from nodegraph_training.training.denoising import network_settings, objective_of
    from nodegraph_training.training.examples import class_names, require_side
    from nodegraph_training.training.latents import LabelledLatents, latents_of
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import built, own_vae

    pictures, coder = data.pictures, own_vae(vae, run)
    require_side(pictures, coder.config.factor)
    labels, names = class_names(pictures)
    config = UNetConfig(
        in_channels=coder.config.latent_channels,
        model_channels=channels,
        channel_mult=tuple(levels),
        num_res_blocks=1,
        transformer_depth=(0,) * len(levels),
        middle_depth=0,
        norm_groups=math.gcd(16, channels),
    )
    schedule, classifier = NoiseSchedule(), built(lambda: NoisyClassifier(config, len(names)), seed, run)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, options=options)
    with run.work_folder() as folder:
        latents = latents_of(pictures, coder, folder)
        task = ClassifierTask(classifier, objective_of(schedule, "simple"))
        trainer = train(task, LabelledLatents(latents, labels), how, run=run, folder=folder)
        with trainer.averaged():
            return TrainedClassifier(
                copied(classifier.state_dict()), {**network_settings(config, schedule, coder.config.latent), "classes": names}
            )


@node("ClassifierGuidance", numeric=True)
def classifier_guidance(
    denoiser: Denoiser,
    classifier: TrainedClassifier,
    label: Annotated[str, Help("the class to guide to, such as 'cat'; one of those that the classifier learned")],
    scale: Annotated[float, Range(0, 1000), Help("strength; 1 is that of Bayes' rule, more is clearer and varies less")] = 1.0,
    run: Run = Run(),
) -> Denoiser:
    """Guide a denoiser to a class that a classifier of noisy latents knows.

    `TrainClassifier` trains the classifier. `denoised + scale * sigma^2 * grad log p(label | x)` (Dhariwal & Nichol 2021, Alg. 2).
    The denoiser needs no prompt. Each step also evaluates the classifier and its gradient.
    """
    import torch

    from nodegraph_diffusion.denoising.unguided import as_guided
    from nodegraph_diffusion.guidance import GradientGuidance
    from nodegraph_diffusion.guidance.classifier_score import ClassifierScore
    from nodegraph_diffusion.networks.config import LatentSpace
    from nodegraph_diffusion.noise_schedule import NoiseSchedule
    from nodegraph_training.training.networks import own_classifier

    settings = classifier.settings
    names, learned = settings["classes"], LatentSpace(*settings["latent"])
    if label not in names:
        raise ValueError(f"label: expected a class of this classifier ({', '.join(names)}), found '{label}'; choose one of them")
    if denoiser.latent is not None and not learned.holds(denoiser.latent):
        raise ValueError(
            f"classifier: expected one of latents of {denoiser.latent}, which this denoiser makes, found one of {learned}; "
            f"train the classifier with the VAE of this model"
        )
    score = ClassifierScore(
        own_classifier(classifier, run), NoiseSchedule(**settings["noise_schedule"]), torch.tensor([names.index(label)])
    )
    function = GradientGuidance(as_guided(denoiser.function), score, scale, through="noisy")
    return dataclasses.replace(denoiser, function=function)


@node("ClipGuidance", numeric=True)
def clip_guidance(
    denoiser: Denoiser,
    vae: VAE,
    text_encoder: Annotated[TextEncoder, Help("of `TrainCLIP`")],
    image_encoder: Annotated[TrainedImageEncoder, Help("of `TrainCLIP`, trained with this text encoder")],
    text: Annotated[str, Help("what the pictures should show")],
    scale: Annotated[float, Range(0, 10_000), Help("strength; more is closer to the text and varies less")] = 30.0,
    through: Annotated[
        Literal["estimate", "network"], Help("network: the gradient also passes through the UNet, which takes three times as long")
    ] = "estimate",
    run: Run = Run(),
) -> Denoiser:
    """Guide a denoiser to pictures that CLIP finds similar to a text.

    `denoised + scale * sigma^2 * grad cos(picture, text)` (Nichol et al. 2021, "GLIDE", sec. 2.4), for the decoded estimate of the
    picture. The denoiser needs no prompt. Each step also decodes the estimate.
    """
    from nodegraph_diffusion.denoising.unguided import as_guided
    from nodegraph_diffusion.guidance import GradientGuidance
    from nodegraph_diffusion.guidance.clip_score import CLIPScore
    from nodegraph_diffusion.text.encode import read_prompt
    from nodegraph_training.training.networks import own_image_encoder, own_readers, own_vae

    pooled = read_prompt(own_readers(text_encoder, run), text).pooled
    width = image_encoder.settings["config"]["projection"]
    if pooled is None or pooled.shape[-1] != width:
        found = "one without" if pooled is None else f"one of {pooled.shape[-1]} numbers"
        raise ValueError(f"text_encoder: expected an embedding of {width} numbers, as the image encoder has, found {found}")
    network = own_vae(vae, run)
    factor = network.config.scaling_factor
    score = CLIPScore(own_image_encoder(image_encoder, run), pooled, lambda latent: network.decode(latent / factor), scale=1.0)
    function = GradientGuidance(as_guided(denoiser.function), score, scale, through=through)
    return dataclasses.replace(denoiser, function=function)
