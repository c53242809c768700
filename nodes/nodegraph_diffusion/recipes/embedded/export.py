"""Writing the trained model: the folder that takes the place of the embedded model's, but for the card."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from nodegraph_diffusion.checkpoint import save_diffusers
from nodegraph_diffusion.denoising.preview import LinearMap, fitted
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.recipes.embedded import denoiser, text
from nodegraph_diffusion.recipes.embedded.data import SIDE, TRAINING_SEED, pictures, training_scene
from nodegraph_diffusion.recipes.pictureworld import scene
from nodegraph_diffusion.recipes.pictureworld.judges.network import LearnedJudge
from nodegraph_diffusion.recipes.pictureworld.sheet import contact_sheet
from nodegraph_diffusion.recipes.pixels import to_tensor
from nodegraph_diffusion.text.tokenizer import load_tokenizer


def write_model(
    folder: Path, unet: UNet, vae: AutoencoderKL, encoder: CLIPTextModel, *, judge: LearnedJudge, fitted_to: int
) -> None:
    """Write the networks in diffusers' layout, float16, with the judge, the map for previews, and training pictures.

    The map is fitted to the first `fitted_to` training pictures.
    """
    tokenizer = folder.with_name("tokenizer")
    text.vocabulary().write(tokenizer)
    save_diffusers(
        folder,
        unet,
        vae,
        encoder,
        noise_schedule=denoiser.NOISE_SCHEDULE,
        tokenizer_folder=tokenizer,
        special_tokens=load_tokenizer(tokenizer).special_ids,
        sample_size=SIDE,
    )
    judge.save(folder / "judge.safetensors")
    write_preview(folder / "preview.json", vae, fitted_to)
    write_picture(folder / "world.png", contact_sheet([scene(TRAINING_SEED, index) for index in range(24)], 8, SIDE))


@torch.no_grad()
def write_preview(file: Path, vae: AutoencoderKL, count: int) -> None:
    """Fit the linear map from latents to colours on the first `count` training pictures, and write it."""
    latents, decoded = _cells(vae, pictures([training_scene(index) for index in range(count)]))
    found = fitted(latents, decoded)
    rounded = LinearMap(
        tuple((round(red, 4), round(green, 4), round(blue, 4)) for red, green, blue in found.weights),
        (round(found.bias[0], 4), round(found.bias[1], 4), round(found.bias[2], 4)),
    )
    latent = vae.config.latent
    record = {"channels": latent.channels, "factor": latent.factor, "scaling_factor": latent.scaling_factor, **asdict(rounded)}
    file.write_text(json.dumps(record) + "\n", encoding="utf-8")


@torch.no_grad()
def explained_by_preview(file: Path, vae: AutoencoderKL, pixels: NDArray[np.uint8]) -> list[float]:
    """The share of the variance of red, green and blue of cells that the map explains, for pictures (B, H, W, 3)."""
    record = json.loads(file.read_text(encoding="utf-8"))
    found = LinearMap(tuple(map(tuple, record["weights"])), tuple(record["bias"]))
    latents, decoded = _cells(vae, pixels)
    wanted = decoded.clamp(0, 1).reshape(-1, 3)
    left = (found(latents).reshape(-1, 3) - wanted).square().mean(0)
    return (1 - left / wanted.var(0, correction=0).clamp_min(1e-12)).tolist()


def _cells(vae: AutoencoderKL, pixels: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
    """The latents of pictures, scaled as the UNet sees them, and the mean colour of each decoded cell, (B, h, w, 3)."""
    latents, colours = [], []
    for part in np.array_split(pixels, max(1, len(pixels) // 25)):
        latent = vae.encode(to_tensor(part))[0]
        decoded = torch.nn.functional.avg_pool2d(vae.decode(latent) / 2 + 0.5, vae.config.factor)
        latents.append(latent * vae.config.scaling_factor)
        colours.append(decoded.movedim(1, -1))
    return torch.cat(latents), torch.cat(colours)


def write_picture(file: Path, pixels: NDArray[np.uint8]) -> None:
    """Write a picture (H, W, 3) as a PNG."""
    Image.fromarray(pixels).save(file, optimize=True)
