"""Measuring a model on pictures and captions."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from nodegraph_nodes.models.autoencoder import decode_latent
from nodegraph_nodes.models.denoisers import load_denoisers
from nodegraph_nodes.models.parts import load_vae_network
from nodegraph_nodes.models.text_encoders import load_readers
from nodegraph_nodes.types import Conditioning, Latent
from nodegraph_training.training.examples import pixels_of

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_nodes.types import VAE, TextEncoder, UNetModel
    from nodegraph_training.types import Pictures


@torch.no_grad()
def psnr(pictures: Pictures, vae: VAE, count: int, run: Run) -> float:
    """Peak signal-to-noise ratio in dB of pictures after encoding and decoding, from their mean squared error in 8 bits."""
    network = load_vae_network(vae, run)
    errors = []
    for index in range(min(count, len(pictures))):
        pixels = pixels_of(pictures, [index])
        decoded = network.decode(network.encode(pixels.to(run.device))[0]).cpu()
        errors.append(float(((decoded.clamp(-1, 1) - pixels) * 127.5).round().double().square().mean()))
    return 10 * math.log10(255**2 / max(sum(errors) / len(errors), 1e-12))


@torch.no_grad()
def paint_and_judge(
    pictures: Pictures,
    models: tuple[UNetModel, VAE, TextEncoder],
    *,
    count: int,
    cfg: float,
    sampler: Any,
    schedule: Any,
    steps: int,
    seed: int,
    run: Run,
) -> tuple[Tensor, dict[str, Any]]:
    """Pictures (count, H, W, 3) painted from the first captions, and what a judge says about them, if there is one."""
    from nodegraph_diffusion.guidance import ClassifierFreeGuidance
    from nodegraph_diffusion.sampling import SAMPLERS, draw_noise, sample, sigmas_for
    from nodegraph_diffusion.schedules import SCHEDULES
    from nodegraph_diffusion.text.encode import read_prompt

    unet, vae, text_encoder = models
    readers, config = load_readers(text_encoder, run), vae.part.config
    negative = Conditioning((read_prompt(readers, "").map(lambda tensor: tensor.cpu()),))
    method = SAMPLERS[sampler] if isinstance(sampler, str) else sampler
    levels = sigmas_for(
        SCHEDULES[schedule] if isinstance(schedule, str) else schedule, unet.part.noise_schedule, steps, strength=1.0
    )
    side = pictures.side
    shape = (1, config.latent_channels, -(-side // config.factor), -(-side // config.factor))
    texts = [pictures.caption(index) for index in range(min(count, len(pictures)))]
    painted = []
    for number, text in enumerate(texts):
        positive = Conditioning((read_prompt(readers, text).map(lambda tensor: tensor.cpu()),))
        sides = load_denoisers(unet, run, positive=positive, negative=negative)
        latent = sample(
            ClassifierFreeGuidance(sides["positive"], sides["negative"], cfg),
            torch.zeros(shape, device=run.device),
            draw_noise(shape, seed + number, "per_picture").to(run.device),
            method,
            sigmas=levels,
            seed=seed + number,
        )
        painted.append(decode_latent(vae, Latent(latent.float().cpu(), (side, side), config.latent), run).pixels)
        run.step(number + 1, len(texts))
    whole = torch.cat(painted)
    return whole, _judged(pictures, whole, texts)


def _judged(pictures: Pictures, painted: Tensor, texts: list[str]) -> dict[str, Any]:
    """What the program that judges the picture world finds."""
    from nodegraph_training.data.picture_world import DrawnPictures

    if not isinstance(pictures, DrawnPictures):
        return {"captions": len(texts)}
    from nodegraph_diffusion.recipes.pictureworld import faults, parse
    from nodegraph_diffusion.recipes.pictureworld.judges.matched_filter import judge_by_templates

    readings = judge_by_templates((painted * 255).round().byte().numpy().astype(np.uint8))
    verdicts = [faults(parse(text), reading) for text, reading in zip(texts, readings, strict=True)]
    wrong = Counter(str(name) for verdict in verdicts for name in verdict)
    return {
        "captions": len(texts),
        "right": sum(not verdict for verdict in verdicts) / len(verdicts),
        "wrong": dict(sorted(wrong.items())),
    }
