"""The stages of the recipe. Each writes its result to a file and is skipped if the file exists.

A stage that trains keeps its state in a folder, and can be stopped or killed at any time: the same call continues it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import nn

from nodegraph_diffusion.checkpoint import describe, load_text_encoder, load_unet, load_vae
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.recipes.embedded import autoencoder, decoder, denoiser, evaluation, text
from nodegraph_diffusion.recipes.embedded.card import card
from nodegraph_diffusion.recipes.embedded.data import SIDE, held_out_scenes, pictures, training_scene
from nodegraph_diffusion.recipes.embedded.export import write_model, write_picture
from nodegraph_diffusion.recipes.embedded.figures import lines, measure
from nodegraph_diffusion.recipes.embedded.latents import encode_scenes, read_latents
from nodegraph_diffusion.recipes.embedded.painting import Model
from nodegraph_diffusion.recipes.pictureworld import scene
from nodegraph_diffusion.recipes.pictureworld.captions import caption
from nodegraph_diffusion.recipes.pictureworld.judges import training as judge_training
from nodegraph_diffusion.recipes.pictureworld.judges.accuracy import accuracy, judged_scenes
from nodegraph_diffusion.recipes.pictureworld.judges.matched_filter import judge_by_templates
from nodegraph_diffusion.recipes.pictureworld.judges.network import JudgeNetwork, LearnedJudge
from nodegraph_diffusion.recipes.pixels import standardise
from nodegraph_diffusion.training.loop.metrics import Progress
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.state import read_record, write_state
from nodegraph_diffusion.training.loop.task import Batch
from nodegraph_diffusion.training.loop.trainer import STATE, Trainer
from nodegraph_diffusion.training.widening import widen

Network = TypeVar("Network", bound=nn.Module)

TRAINED = {
    "narrow": "narrow_autoencoder",
    "autoencoder": "autoencoder",
    "text": "text_encoder",
    "judge": "judge",
    "denoiser": "denoiser",
    "settling": "settled",
    "decoder": "decoder",
}
"""The stages that train, with the folders of their states."""


class Stopped(Exception):
    """The run was asked to stop; its state is saved."""


def report(message: str) -> None:
    """Print a line with the time of day."""
    print(time.strftime("%H:%M:%S"), message, flush=True)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A run in the folder `work`. The numbers are steps of optimisers, scenes, and pictures; the defaults are those of the model.

    `evaluated` captions of each kind are painted; `measured` drawn pictures and captions are for everything else.

    `stop` is asked often; if it returns True, the run saves its state and raises Stopped. Everything random follows from seed 0.
    """

    work: Path
    narrow_autoencoder_steps: int = autoencoder.NARROW_STEPS
    autoencoder_steps: int = autoencoder.STEPS
    text_steps: int = text.STEPS
    judge_steps: int = judge_training.STEPS
    judge_scenes: int = judge_training.SCENES
    scenes: int = denoiser.SCENES
    denoiser_steps: int = denoiser.STEPS
    settling_steps: int = denoiser.SETTLING_STEPS
    decoder_steps: int = decoder.STEPS
    evaluated: int = 300
    measured: int = 500
    stop: Callable[[], bool] = field(default=lambda: False)

    @property
    def model(self) -> Path:
        """The folder of the exported model."""
        return self.work / "model"

    def file(self, name: str) -> Path:
        """The result of a stage."""
        return self.work / f"{name}.safetensors"

    def train(self, name: str, trainer: Trainer[Batch]) -> None:
        """Train to the last step, with a line for each line of metrics. Raises Stopped if the run is to stop."""

        def show(progress: Progress) -> None:
            metrics = progress.metrics
            if metrics is not None and metrics.step == progress.step:
                figures = ", ".join(f"{key} {value:.4g}" for key, value in metrics.figures.items())
                hours = (progress.seconds_left or 0) / 3600
                report(f"{name}: step {progress.step} of {progress.steps}, {hours:.1f} hours left: {figures}")

        if not trainer.run(on_progress=show, stop=self.stop):
            raise Stopped

    def load(self, name: str, network: Network) -> Network:
        """The network that a stage has trained; it does not change any more."""
        network.load_state_dict(load_file(self.file(name)))
        return network.eval().requires_grad_(False)

    def write(self, name: str, network: nn.Module, figures: dict[str, float]) -> None:
        """Write the result of a stage, with figures about it."""
        report(f"{name}: {figures}")
        write_state(self.file(name), network.state_dict(), figures)


def train_narrow_autoencoder(recipe: Recipe) -> None:
    """Encoder and decoder, with few channels."""
    _train_autoencoder(recipe, "narrow_autoencoder", autoencoder.new_autoencoder(), recipe.narrow_autoencoder_steps)


def train_autoencoder(recipe: Recipe) -> None:
    """Encoder and decoder, from where the narrow ones are."""
    model = AutoencoderKL(autoencoder.CONFIG)
    widen(recipe.load("narrow_autoencoder", AutoencoderKL(autoencoder.NARROW)), model)
    _train_autoencoder(recipe, "autoencoder", model, recipe.autoencoder_steps)


def _train_autoencoder(recipe: Recipe, name: str, model: AutoencoderKL, steps: int) -> None:
    task, options = autoencoder.autoencoder_task(model), autoencoder.options(steps)
    trainer = Trainer(task, autoencoder.Crops(), options, folder=recipe.work / name)
    recipe.train(name, trainer)
    with trainer.averaged():
        standard = standardise(model, (pictures([training_scene(i)]) for i in range(4 * recipe.measured)))
    recipe.write(name, standard, {"decibels": autoencoder.psnr(standard, pictures(held_out_scenes(recipe.measured)))})


def train_text_encoder(recipe: Recipe) -> None:
    """The text encoder, by reading captions."""
    torch.manual_seed(0)
    reader = text.Reader()
    options = text.options(recipe.text_steps)
    trainer = Trainer(text.ReadingTask(reader), text.CaptionsOfScenes(), options, folder=recipe.work / "text_encoder")
    recipe.train("text encoder", trainer)
    held_out = [scene(1, index, combinations="held-out") for index in range(recipe.measured)]
    with trainer.averaged():
        read = {style: text.reading_accuracy(reader, [caption(each, 0, style) for each in held_out]) for style in text.STYLES}
        recipe.write("text_encoder", reader.encoder, {str(style): share for style, share in read.items()})


def train_judge(recipe: Recipe) -> None:
    """The learned judge."""
    torch.manual_seed(0)
    network = JudgeNetwork()
    examples, options = judge_training.JudgedScenes(recipe.judge_scenes), judge_training.options(recipe.judge_steps)
    trainer = Trainer(judge_training.JudgeTask(network), examples, options, folder=recipe.work / "judge")
    recipe.train("judge", trainer)
    with trainer.averaged():
        right = accuracy(LearnedJudge(network), judged_scenes(recipe.measured)).right
        recipe.write("judge", network, {"right": right / recipe.measured})


def encode(recipe: Recipe) -> None:
    """The latents of the training scenes."""
    model = recipe.load("autoencoder", AutoencoderKL(autoencoder.CONFIG))
    if not encode_scenes(model, recipe.work / "latents", recipe.scenes, recipe.stop):
        raise Stopped


def train_denoiser(recipe: Recipe) -> None:
    """The denoiser, with a constant rate."""
    _train_unet(recipe, "denoiser", denoiser.options(recipe.denoiser_steps, "constant"), start=None)


def settle_denoiser(recipe: Recipe) -> None:
    """The denoiser, from where the constant rate has brought it, with a rate that falls to zero."""
    _train_unet(recipe, "settled", denoiser.options(recipe.settling_steps, "cosine", seed=1), start="denoiser")


def _train_unet(recipe: Recipe, name: str, options: TrainingOptions, *, start: str | None) -> None:
    torch.manual_seed(0)
    task = denoiser.SceneDenoiserTask(UNet(denoiser.CONFIG), recipe.load("text_encoder", CLIPTextModel(text.config())))
    module = task.networks["denoiser"].module
    if start is not None:
        module.load_state_dict(load_file(recipe.work / f"{start}-last.safetensors"))
    examples = denoiser.CaptionedScenes(read_latents(recipe.work / "latents", recipe.scenes))
    trainer = Trainer(task, examples, options, folder=recipe.work / name)
    recipe.train(name, trainer)
    write_state(recipe.work / f"{name}-last.safetensors", module.state_dict(), {"step": trainer.step})
    with trainer.averaged():
        recipe.write(name, task.unet, {"steps": trainer.step})


def train_decoder(recipe: Recipe) -> None:
    """The decoder again."""
    task = decoder.DecoderTask(recipe.load("autoencoder", AutoencoderKL(autoencoder.CONFIG)))
    examples, options = autoencoder.WholePictures(), decoder.options(recipe.decoder_steps)
    trainer = Trainer(task, examples, options, folder=recipe.work / "decoder")
    recipe.train("decoder", trainer)
    with trainer.averaged():
        recipe.write("decoder", task.model, {"decibels": autoencoder.psnr(task.model, pictures(held_out_scenes(recipe.measured)))})


def export(recipe: Recipe) -> None:
    """The folder `model`, which can take the place of the embedded model: the newest denoiser and decoder that there are."""
    unet = recipe.load("settled" if recipe.file("settled").exists() else "denoiser", UNet(denoiser.CONFIG))
    vae = recipe.load("decoder" if recipe.file("decoder").exists() else "autoencoder", AutoencoderKL(autoencoder.CONFIG))
    encoder = recipe.load("text_encoder", CLIPTextModel(text.config()))
    judge = LearnedJudge(recipe.load("judge", JudgeNetwork()))
    write_model(recipe.model, unet, vae, encoder, judge=judge, fitted_to=min(400, 4 * recipe.measured))


def evaluate(recipe: Recipe) -> None:
    """Every figure of the exported model, by both judges, and the pictures of the card."""
    model = load_model(recipe.model)
    judges: dict[str, evaluation.Judge] = {
        "learned": LearnedJudge.load(recipe.model / "judge.safetensors"),
        "matched filter": judge_by_templates,
    }
    figures, first = measure(recipe.model, model, judges, measured=recipe.measured, evaluated=recipe.evaluated)
    write_picture(recipe.model / "samples.png", _sheet([*first.values()]))
    for line in lines(figures):
        report(line)
    _write_whole(recipe.work / "figures.json", json.dumps(figures, indent=1) + "\n")


def write_card(recipe: Recipe) -> None:
    """The model's card, with what a person wrote about its pictures in `notes.md`, if anybody did."""
    figures = json.loads((recipe.work / "figures.json").read_text(encoding="utf-8"))
    notes = recipe.work / "notes.md"
    written = card(figures, about_run(recipe), notes.read_text(encoding="utf-8") if notes.exists() else "")
    _write_whole(recipe.model / "README.md", written)
    report(f"the model is in {recipe.model}")


def about_run(recipe: Recipe) -> dict[str, Any]:
    """How long each stage took, in steps and hours, and the sizes of the result."""
    model, trained = load_model(recipe.model), {}
    for stage, folder in TRAINED.items():
        record = read_record(recipe.work / folder / STATE) or {"step": 0, "seconds": 0.0}
        trained[stage] = {"steps": record["step"], "hours": record["seconds"] / 3600}
    networks: dict[str, nn.Module] = {"unet": model.unet, "vae": model.vae, "text_encoder": model.text_encoder}
    weights = [file.stat().st_size for file in recipe.model.rglob("*.safetensors")]
    latent = model.vae.config.latent
    threads = torch.get_num_threads()
    return {
        "stages": trained,
        "scenes": recipe.scenes,
        "sizes": {
            "parameters": {name: sum(each.numel() for each in network.parameters()) for name, network in networks.items()},
            "megabytes": sum(weights) / 1e6,
            "latent": [latent.channels, SIDE // latent.factor],
        },
        "machine": f"{threads} {'thread' if threads == 1 else 'threads'} of a CPU with {torch.backends.cpu.get_cpu_capability()}",
    }


def load_model(folder: Path) -> Model:
    """The exported model, in float32."""
    found = describe(folder).model()
    return Model(
        load_unet(found.unet, "cpu", torch.float32),
        load_vae(found.vae, "cpu", torch.float32),
        load_text_encoder(found.text.parts[0], "cpu", torch.float32),
        found.noise_schedule,
    )


def _sheet(rows: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Rows of pictures (B, H, W, 3) in one picture; white where a row is shorter."""
    longest = max(map(len, rows))
    filled = [np.concatenate([row, np.full((longest - len(row), *row.shape[1:]), 255, np.uint8)]) for row in rows]
    return np.concatenate([np.concatenate([*row], axis=1) for row in filled])


def _write_whole(file: Path, text: str) -> None:
    """Write a text file at once, so that a file that exists is complete."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(file)
