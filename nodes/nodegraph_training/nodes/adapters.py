"""Nodes that teach a model something new: a LoRA, a word, a ControlNet."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Help, Range, Run, Seed, node
from nodegraph_nodes.trained.models import TrainedControlNet
from nodegraph_nodes.types import VAE, Image, TextEncoder, TrainedEmbedding, TrainedLora, UNetModel
from nodegraph_training.nodes.inputs import Batch, Dropout, Options, Rate, Steps, Weights
from nodegraph_training.types import DataSet

Rank = Annotated[int, Range(1, 1024), Help("of the change: more can learn more, and needs more pictures")]


@node("TrainLora", numeric=True)
def train_lora(
    unet: UNetModel,
    vae: VAE,
    text_encoder: TextEncoder,
    data: DataSet,
    steps: Steps = 500,
    rank: Rank = 8,
    alpha: Annotated[float | None, Range(1e-3, 1e4), Help("the change is multiplied by alpha / rank; default: rank")] = None,
    batch: Batch = 4,
    learning_rate: Rate = 1e-3,
    layers: Annotated[
        Literal["attention", "all"],
        Help("attention: what most trainers change; all: every linear layer and convolution"),
    ] = "attention",
    weighting: Weights = "simple",
    dropout: Dropout = 0.1,
    options: Options = None,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedLora:
    """Learn a style or a thing from a few captioned pictures, as a LoRA.

    A LoRA is a small change of a UNet (Hu et al. 2021). Give the result to `LoadLora` as `file`, or save it
    as a .safetensors file, which other programs load.
    """
    from safetensors.torch import load_file

    from nodegraph_diffusion.training.tasks.denoiser import DenoiserTask
    from nodegraph_diffusion.training.tuning.lora import ATTENTION, Lora, save_lora
    from nodegraph_training.training.denoising import objective_of, prepare_captions
    from nodegraph_training.training.loop import HowToTrain, train
    from nodegraph_training.training.networks import own_unet

    network = own_unet(unet, run)
    targets = ATTENTION if layers == "attention" else _all_layers(network)
    lora = Lora(network, rank=rank, alpha=alpha, targets=targets, seed=seed)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, average=0.99, options=options)
    with run.work_folder() as folder:
        prepared = prepare_captions(data.pictures, vae, text_encoder, network, run=run, folder=folder)
        task = DenoiserTask(
            network,
            prepared.condition,
            objective_of(unet.part.noise_schedule, weighting),
            adapter=lora,
            dropout=dropout,
            log_bound=False,
            sampled=prepared.sampled,
        )
        trainer = train(task, prepared.examples, how, run=run, folder=folder)
        file = folder / "lora.safetensors"
        with trainer.averaged():
            save_lora(file, {"unet": (network, lora)})
        return TrainedLora(load_file(file))


@node("TrainTextualInversion", numeric=True)
def train_textual_inversion(
    unet: UNetModel,
    vae: VAE,
    text_encoder: TextEncoder,
    data: DataSet,
    steps: Steps = 500,
    start: Annotated[
        str, Help("words that the model knows: each vector of the new word begins as the next of them, or as the last")
    ] = "picture",
    vectors: Annotated[int, Range(1, 64), Help("how many vectors the word has")] = 1,
    template: Annotated[
        str, Help("what is learned: {word} stands for the new word, {caption} for the caption of each picture")
    ] = "a picture of {word}",
    batch: Batch = 4,
    learning_rate: Rate = 5e-3,
    weighting: Weights = "simple",
    options: Options = None,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedEmbedding:
    """Learn a new word from a few pictures; the model stays as it is.

    See Gal et al. 2022. Give the result to `LoadEmbedding` as `file`, or save it as a .safetensors file.
    """
    import torch

    from nodegraph_diffusion.training.tasks.denoiser import DenoiserTask
    from nodegraph_training.training.denoising import SHOWN, objective_of, samples
    from nodegraph_training.training.examples import require_side
    from nodegraph_training.training.latents import latents_of
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import own_readers, own_unet, own_vae
    from nodegraph_training.training.words import NewWord

    network, coder, readers = own_unet(unet, run).requires_grad_(False), own_vae(vae, run), own_readers(text_encoder, run)
    require_side(data.pictures, coder.config.factor)
    word = NewWord(readers, template, start, vectors, added_dim=network.config.added_dim)
    how = HowToTrain(
        steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, average=0.99, weight_decay=0.0, options=options
    )
    with run.work_folder() as folder:
        latents = latents_of(data.pictures, coder, folder)
        examples = word.examples(data.pictures, latents)
        condition = word.condition.to(run.device)
        shown = samples(coder, examples.tokens[:SHOWN], latents[0]) if network.config.added_dim is None else None
        objective = objective_of(unet.part.noise_schedule, weighting)
        task = DenoiserTask(network, condition, objective, dropout=0.0, log_bound=False, sampled=shown)
        trainer = train(task, examples, how, run=run, folder=folder)
        with trainer.averaged(), torch.no_grad():
            return TrainedEmbedding(copied(word.tensors()))


@node("TrainControlNet", numeric=True)
def train_control_net(
    unet: UNetModel,
    vae: VAE,
    text_encoder: TextEncoder,
    data: DataSet,
    steps: Steps = 2000,
    batch: Batch = 4,
    learning_rate: Rate = 2e-4,
    weighting: Weights = "simple",
    dropout: Dropout = 0.3,
    options: Options = None,
    seed: Seed = 0,
    run: Run = Run(),
) -> TrainedControlNet:
    """Learn to follow the edges of a picture (Zhang et al. 2023).

    Give the result to `ApplyControlNet`, with a picture that `Edges` made.
    """
    from nodegraph_diffusion.networks.config import HINT_WIDTHS
    from nodegraph_diffusion.training.tuning.controlnet import ControlNetTask, controlnet_of
    from nodegraph_training.training.denoising import objective_of, prepare_captions
    from nodegraph_training.training.latents import HintedPictures
    from nodegraph_training.training.loop import HowToTrain, copied, train
    from nodegraph_training.training.networks import built, own_unet
    from nodegraph_training.training.sizes import sizes_of

    network = own_unet(unet, run)
    factor = vae.part.config.factor
    control = built(lambda: controlnet_of(network, factor), seed, run).requires_grad_(True)
    how = HowToTrain(steps=steps, batch=batch, learning_rate=learning_rate, seed=seed, average=0.99, options=options)
    with run.work_folder() as folder:
        prepared = prepare_captions(data.pictures, vae, text_encoder, network, run=run, folder=folder)
        task = ControlNetTask(
            network,
            control,
            prepared.condition,
            objective_of(unet.part.noise_schedule, weighting),
            dropout=dropout,
            log_bound=False,
        )
        trainer = train(task, HintedPictures(prepared.examples, data.pictures), how, run=run, folder=folder)
        widths = HINT_WIDTHS[: factor.bit_length()]
        with trainer.averaged():
            return TrainedControlNet(copied(control.state_dict()), {"config": sizes_of(network.config), "hint_widths": [*widths]})


@node("Edges", numeric=True)
def edges(
    image: Image,
    threshold: Annotated[float, Range(0, 1), Help("how much neighbouring pixels must differ")] = 0.15,
) -> Image:
    """The edges of pictures, white on black: what `TrainControlNet` learns to follow."""
    from nodegraph_training.training.examples import edges_of

    return Image(edges_of(image.pixels.permute(0, 3, 1, 2), threshold).permute(0, 2, 3, 1).contiguous())


def _all_layers(network: object) -> tuple[str, ...]:
    """The names of all linear layers and convolutions."""
    from torch import nn

    assert isinstance(network, nn.Module)
    return tuple(name for name, layer in network.named_modules() if isinstance(layer, nn.Linear | nn.Conv2d))
