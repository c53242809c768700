"""Painting with the trained networks, as our workflows do: 25 steps of DPM-Solver++(2M) on the Karras schedule, guidance 3."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

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
from nodegraph_diffusion.recipes.embedded.data import SIDE
from nodegraph_diffusion.recipes.embedded.text import vocabulary
from nodegraph_diffusion.recipes.pixels import to_pixels, to_tensor
from nodegraph_diffusion.sampling import SAMPLERS, draw_noise, sample, sigmas_for
from nodegraph_diffusion.schedules.continuous import schedule_karras

GUIDANCE, STEPS, SEED = 3.0, 25, 1000
"""Chosen before any evaluation: guidance and steps as in our workflows, and the seed of the first picture."""
BATCH = 25


@dataclass(frozen=True)
class Model:
    """The networks of a model and the schedule that it was trained on, in one dtype on the CPU."""

    unet: UNet
    vae: AutoencoderKL
    text_encoder: CLIPTextModel
    noise_schedule: NoiseSchedule

    def contexts(self, texts: Sequence[str]) -> Tensor:
        """Captions of the grammar as contexts, (B, L, width)."""
        encoded: Tensor = self.text_encoder(torch.tensor([vocabulary().tokens(text) for text in texts]))
        return encoded


@torch.no_grad()
def paint(model: Model, captions: Sequence[str], seed: int = SEED, steps: int = STEPS) -> NDArray[np.uint8]:
    """A picture for each caption, (B, SIDE, SIDE, 3). Each batch of 25 has the noise of the seed plus its first number."""
    cells = SIDE // model.vae.config.factor
    painted = []
    for start in range(0, len(captions), BATCH):
        texts = captions[start : start + BATCH]
        known = torch.zeros(len(texts), model.vae.config.latent_channels, cells, cells)
        painted.append(_sampled(model, texts, known, None, seed=seed + start, steps=steps))
    return np.concatenate(painted)


@torch.no_grad()
def repaint(
    model: Model,
    captions: Sequence[str],
    pixels: NDArray[np.uint8],
    holes: NDArray[np.bool_],
    *,
    seed: int = SEED,
    steps: int = STEPS,
) -> NDArray[np.uint8]:
    """Pictures (B, SIDE, SIDE, 3) with their holes (B, SIDE, SIDE) painted anew for the captions; the rest is as it was."""
    painted = []
    for start in range(0, len(captions), BATCH):
        part = slice(start, start + BATCH)
        known = model.vae.encode(to_tensor(pixels[part]))[0] * model.vae.config.scaling_factor
        masks = torch.from_numpy(holes[part]).float()
        painted.append(_sampled(model, captions[part], known, masks, seed=seed + start, steps=steps))
    return np.where(holes[..., None], np.concatenate(painted), pixels)


def _sampled(
    model: Model, texts: Sequence[str], known: Tensor, masks: Tensor | None, *, seed: int, steps: int
) -> NDArray[np.uint8]:
    positive = UNetDenoiser(model.unet, model.noise_schedule, model.contexts(texts))
    negative = UNetDenoiser(model.unet, model.noise_schedule, model.contexts([""] * len(texts)))
    denoiser = ClassifierFreeGuidance(positive, negative, GUIDANCE)
    noise = draw_noise(tuple(known.shape), seed)
    sigmas = sigmas_for(schedule_karras, model.noise_schedule, steps)
    latent = sample(denoiser, known, noise, SAMPLERS["dpmpp_2m"], sigmas=sigmas, mask=masks)
    return to_pixels(model.vae.decode(latent / model.vae.config.scaling_factor))
