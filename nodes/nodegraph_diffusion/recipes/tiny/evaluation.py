"""Evaluation of the trained model: pictures for captions of held-out combinations, scored by both judges."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nodegraph_diffusion.denoising.unet_denoiser import UNetDenoiser
from nodegraph_diffusion.guidance import ClassifierFreeGuidance
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.recipes.pixels import to_pixels
from nodegraph_diffusion.recipes.tiny.data import SIZE, pictures, scene
from nodegraph_diffusion.recipes.tiny.verdict import Judge as Judge
from nodegraph_diffusion.recipes.tiny.verdict import faults
from nodegraph_diffusion.recipes.tiny.vocabulary import vocabulary
from nodegraph_diffusion.recipes.tiny.world import Request, caption, parse, request, sample_scene
from nodegraph_diffusion.recipes.tiny.world.scene import Combinations
from nodegraph_diffusion.sampling import SAMPLERS, draw_noise, sample, sigmas_for
from nodegraph_diffusion.schedules.continuous import schedule_karras

GUIDANCE = 3.0
STEPS = 25
SEED = 1000
"""Chosen before any evaluation: guidance and steps as in our workflows, and the seed of the first picture."""


@dataclass(frozen=True)
class Model:
    """The networks of a model and the schedule that it was trained on, in one dtype on the CPU."""

    unet: UNet
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    noise_schedule: NoiseSchedule


@dataclass(frozen=True)
class Score:
    """By one judge: how many of `total` pictures are right in every attribute, and the faults of the others."""

    right: int
    total: int
    wrong: Counter[str]

    def __str__(self) -> str:
        details = ", ".join(f"{name} {count}" for name, count in self.wrong.most_common())
        return f"{self.right} of {self.total}" + (f" (wrong: {details})" if details else "")


def evaluation_captions(things: int, count: int, combinations: Combinations = "held-out") -> list[str]:
    """The first `count` captions that name every attribute of scenes with `things` things; always the same."""
    randoms = (Random(f"evaluation-{combinations}-{things}-{index}") for index in range(count))
    return [caption(sample_scene(r, combinations=combinations, count=things), r, keep=1.0, colours=1.0) for r in randoms]


@torch.no_grad()
def encode_captions(text_encoder: CLIPTextModel, captions: Sequence[str]) -> Tensor:
    """Captions of the grammar as contexts, (B, L, width)."""
    encoded: Tensor = text_encoder(torch.tensor([vocabulary().tokens(text) for text in captions]))
    return encoded


@torch.no_grad()
def paint(
    model: Model, captions: Sequence[str], seed: int = SEED, guidance: float = GUIDANCE, steps: int = STEPS, batch: int = 25
) -> NDArray[np.uint8]:
    """A picture for each caption by DPM-Solver++(2M) on the Karras schedule, (B, 64, 64, 3); picture k has seed + k."""
    config = model.vae.config
    side = SIZE // config.factor
    sigmas = sigmas_for(schedule_karras, model.noise_schedule, steps)
    painted = []
    for start in range(0, len(captions), batch):
        texts = captions[start : start + batch]
        positive = UNetDenoiser(model.unet, model.noise_schedule, encode_captions(model.text_encoder, texts))
        negative = UNetDenoiser(model.unet, model.noise_schedule, encode_captions(model.text_encoder, [""] * len(texts)))
        noise = draw_noise((len(texts), config.latent_channels, side, side), seed + start)
        denoiser = ClassifierFreeGuidance(positive, negative, guidance)
        latent = sample(denoiser, torch.zeros_like(noise), noise, SAMPLERS["dpmpp_2m"], sigmas=sigmas)
        painted.append(to_pixels(model.vae.decode(latent / config.scaling_factor)))
    return np.concatenate(painted)


def score(judge: Judge, pixels: NDArray[np.uint8], asked: Sequence[Request]) -> Score:
    """Compare the judge's reading of pictures with what their captions ask for."""
    verdicts = [faults(requested, seen) for requested, seen in zip(asked, judge(pixels), strict=True)]
    wrong = Counter(name for verdict in verdicts for name in verdict)
    return Score(sum(not verdict for verdict in verdicts), len(verdicts), wrong)


def score_on_real(judge: Judge, count: int = 100) -> Score:
    """The score of a judge on drawn pictures that it has not seen, half of them of held-out combinations."""
    asked = [request(scene(split, index)) for split in ("valid", "held-out") for index in range(count // 2)]
    real = np.concatenate([pictures("valid", count // 2), pictures("held-out", count // 2)])
    return score(judge, real, asked)


def evaluate(model: Model, judges: dict[str, Judge], count: int = 100, combinations: Combinations = "held-out") -> dict[str, Score]:
    """Scores of `count` captions of one thing and as many of two, by each judge: "one thing, learned" and so on."""
    scores = {}
    for things, name in ((1, "one thing"), (2, "two things")):
        captions = evaluation_captions(things, count, combinations)
        pixels, asked = paint(model, captions), [parse(text) for text in captions]
        for judge_name, judge in judges.items():
            scores[f"{name}, {judge_name}"] = score(judge, pixels, asked)
    return scores
