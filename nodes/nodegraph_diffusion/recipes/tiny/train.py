"""Train the embedded model from scratch: `python -m nodegraph_diffusion.recipes.tiny --work FOLDER`.

Stages: draw the world; autoencoder; text encoder; latents; denoiser; the decoder again; the learned judge; evaluation. Each stage
writes its result to FOLDER and is skipped if the result exists. The long ones save their state every minute: start an interrupted
run again, and it continues. The model is written to FOLDER/tiny in diffusers' layout.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nodegraph_diffusion.checkpoint import describe, load_text_encoder, load_unet, load_vae, save_diffusers
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.recipes.tiny import autoencoder, denoiser, evaluation, learned_judge, matched_filter, text
from nodegraph_diffusion.recipes.tiny.data import SIZE, training_pictures
from nodegraph_diffusion.recipes.tiny.vocabulary import vocabulary
from nodegraph_diffusion.text.tokenizer import load_tokenizer
from nodegraph_diffusion.training import team
from nodegraph_diffusion.training.budget import Budget

Network = TypeVar("Network", bound=nn.Module)


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """The settings of a run; the defaults are those of the shipped weights. Minutes are wall-clock time."""

    work: Path
    pictures: int = 80_000
    autoencoder_minutes: float = 31.0
    denoiser_minutes: float = 50.0
    decoder_minutes: float = 7.0
    checkpoint_minutes: float = 10.0
    text_steps: int = text.STEPS
    judge_steps: int = learned_judge.STEPS
    judge_pictures: int = learned_judge.SCENES
    evaluated: int = 100
    processes: int = 2
    seed: int = 0


def report(message: str) -> None:
    """Print a line with the time of day."""
    print(time.strftime("%H:%M:%S"), message, flush=True)


def run(recipe: Recipe) -> None:
    """Draw the world, then train and evaluate in a team of processes."""
    recipe.work.mkdir(parents=True, exist_ok=True)
    training_pictures(recipe.work / "pictures.u8", recipe.pictures, recipe.processes)
    team.run(train, recipe.processes, recipe.work, recipe)


def train(recipe: Recipe) -> None:
    """All stages after the drawing, in one process of the team."""
    work = recipe.work
    training = training_pictures(work / "pictures.u8", recipe.pictures, recipe.processes)
    vae = _stage(
        work / "autoencoder.safetensors",
        AutoencoderKL(autoencoder.CONFIG),
        lambda: autoencoder.train_autoencoder(
            training,
            _minutes(recipe.autoencoder_minutes),
            state=work / "autoencoder.state",
            seed=recipe.seed,
            report=report,
        ),
    )
    text_encoder = _stage(
        work / "text_encoder.safetensors",
        CLIPTextModel(text.config()),
        lambda: text.train_text_encoder(recipe.seed, report, recipe.text_steps),
        one_process=True,
    )
    latents = _latents(work / "latents.safetensors", lambda: autoencoder.encode_all(vae, training))
    if team.rank() == 0:
        vocabulary().write(work / "tokenizer")
    unet = _stage(
        work / "unet.safetensors",
        UNet(denoiser.CONFIG),
        lambda: denoiser.train_denoiser(
            latents,
            text_encoder,
            _minutes(recipe.denoiser_minutes),
            state=work / "denoiser.state",
            seed=recipe.seed,
            report=report,
            on_checkpoint=lambda unet: _save_model(work, unet, vae, text_encoder),
            checkpoint_seconds=60 * recipe.checkpoint_minutes,
        ),
    )
    vae = _stage(
        work / "decoder.safetensors",
        AutoencoderKL(autoencoder.CONFIG),
        lambda: autoencoder.tune_decoder(
            vae,
            training,
            _minutes(recipe.decoder_minutes),
            state=work / "decoder.state",
            seed=recipe.seed,
            report=report,
        ),
    )
    judge = _stage(
        work / "judge.safetensors",
        learned_judge.JudgeNetwork(),
        lambda: learned_judge.train_judge(recipe.seed, report, recipe.judge_pictures, recipe.judge_steps),
        one_process=True,
    )
    if team.rank() == 0:
        _save_model(work, unet, vae, text_encoder)
        report_figures(work / "tiny", learned_judge.LearnedJudge(judge), recipe.evaluated)


def report_figures(folder: Path, judge: learned_judge.LearnedJudge, count: int) -> None:
    """Evaluate the model in a folder, on `count` captions of each kind, and the judges themselves."""
    checkpoint = describe(folder).model()
    model = evaluation.Model(
        load_unet(checkpoint.unet, "cpu", torch.float32),
        load_vae(checkpoint.vae, "cpu", torch.float32),
        load_text_encoder(checkpoint.text.parts[0], "cpu", torch.float32),
        checkpoint.noise_schedule,
    )
    judges: dict[str, evaluation.Judge] = {"learned": judge, "matched filter": matched_filter.judge_by_templates}
    report(f"autoencoder: {autoencoder.psnr(model.vae, 5 * count):.2f} dB on {5 * count} held-out pictures")
    for name, each in judges.items():
        report(f"judge, {name}: right about {evaluation.score_on_real(each, count)} real pictures")
    for name, result in evaluation.evaluate(model, judges, count).items():
        report(f"{name}: {result}")


def _minutes(minutes: float) -> Budget:
    return Budget(60 * minutes)


def _save_model(work: Path, unet: UNet, vae: AutoencoderKL, text_encoder: CLIPTextModel) -> None:
    save_diffusers(
        work / "tiny",
        unet,
        vae,
        text_encoder,
        noise_schedule=denoiser.SCHEDULE,
        tokenizer_folder=work / "tokenizer",
        special_tokens=load_tokenizer(work / "tokenizer").special_ids,
        sample_size=SIZE,
    )


def _stage(file: Path, network: Network, make: Callable[[], Network], *, one_process: bool = False) -> Network:
    """The network in `file`. If there is none yet, `make` trains it, in all processes or, with `one_process`, in process 0."""
    if not team.agree(file.exists()):
        trained = make() if not one_process or team.rank() == 0 else network
        if team.rank() == 0:
            _write(file, trained.state_dict())
        team.agree(0.0)
    network.load_state_dict(load_file(file))
    return network.requires_grad_(False)


def _latents(file: Path, make: Callable[[], Tensor]) -> Tensor:
    if not team.agree(file.exists()):
        latents = make()
        if team.rank() == 0:
            _write(file, {"latents": latents})
        team.agree(0.0)
    return load_file(file)["latents"]


def _write(file: Path, tensors: dict[str, Tensor]) -> None:
    """Write a file atomically."""
    partial = file.with_suffix(".partial")
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, partial)
    partial.replace(file)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m nodegraph_diffusion.recipes.tiny", description="Train the embedded model.")
    parser.add_argument("--work", type=Path, required=True, help="folder for data, state and results; 2 GB")
    parser.add_argument("--processes", type=int, default=Recipe.processes, help="one for each core (default: %(default)s)")
    parser.add_argument("--pictures", type=int, default=Recipe.pictures, help="training pictures (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=Recipe.seed, help="(default: %(default)s)")
    for stage in ("autoencoder", "denoiser", "decoder", "checkpoint"):
        default = getattr(Recipe, f"{stage}_minutes")
        parser.add_argument(f"--{stage}-minutes", type=float, default=default, help="(default: %(default)s)")
    run(Recipe(**vars(parser.parse_args())))
