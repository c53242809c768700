"""Training of the autoencoder: 64x64 pictures to 16x16 latents of four channels with unit variance, and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nodegraph_diffusion.networks.vae import AutoencoderKL, VAEConfig
from nodegraph_diffusion.recipes.pixels import standardise, to_pixels, to_tensor
from nodegraph_diffusion.recipes.tiny.data import pictures
from nodegraph_diffusion.training import team
from nodegraph_diffusion.training.budget import Budget, cosine
from nodegraph_diffusion.training.losses.gaussian import DiagonalGaussian
from nodegraph_diffusion.training.optimiser import MasterWeights, resume, save_state

CONFIG = VAEConfig(channels=16, channel_mult=(1, 2, 4), num_res_blocks=1, norm_groups=8, mid_attention=False, scaling_factor=1.0)
BATCH = 16  # in each process
PEAK_LR = 2e-3
DECODER_PEAK_LR = 6e-4
KL_WEIGHT = 1e-4


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """L1 plus four times MSE plus half the L1 of the differences between neighbouring pixels."""
    error = output - target
    edges = (error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()) / 2
    return error.abs().mean() + 4 * error.square().mean() + 0.5 * edges


def train_autoencoder(
    training: NDArray[np.uint8], budget: Budget, state: Path, seed: int, report: Callable[[str], None]
) -> AutoencoderKL:
    """Train encoder and decoder from scratch. Returns the average weights, float32, with latents of unit variance."""
    torch.manual_seed(seed)
    model = AutoencoderKL(CONFIG)
    average = deepcopy(model).requires_grad_(False)
    weights = MasterWeights(model, PEAK_LR)
    resume(state, weights, budget)
    random = np.random.default_rng([seed, team.rank(), weights.steps])
    torch.manual_seed(int(random.integers(2**63)))
    saved = budget.elapsed
    while budget.remains():
        pixels = _batch(training, random)
        mean, log_variance = model.encode(pixels.bfloat16())
        encoded = DiagonalGaussian(mean=mean.float(), log_variance=log_variance.float())
        output = model.decode(encoded.sample(torch.randn_like(encoded.mean)).bfloat16()).float()
        divergence = encoded.kl_from_standard().mean() / mean[0].numel()
        (reconstruction_loss(output, pixels) + KL_WEIGHT * divergence).backward()  # type: ignore[no-untyped-call]
        weights.step(cosine(PEAK_LR, budget.fraction))
        if team.rank() == 0 and budget.elapsed - saved > 60:
            saved = budget.elapsed
            save_state(state, weights, budget)
            weights.write_average(average)
            report(f"autoencoder {budget.fraction:4.0%}: step {weights.steps}, {psnr(average, 100):.2f} dB")
    weights.write_average(average)
    return standardise(average, np.array_split(training[:4000], 20))


def tune_decoder(
    model: AutoencoderKL, training: NDArray[np.uint8], budget: Budget, state: Path, seed: int, report: Callable[[str], None]
) -> AutoencoderKL:
    """Continue to train the decoder, mostly on squared error. The encoder, and so every latent, stays the same."""
    torch.manual_seed(seed)
    tuned = deepcopy(model).requires_grad_(True)
    tuned.encoder.requires_grad_(False)
    tuned.quant_conv.requires_grad_(False)
    encoder = deepcopy(model).bfloat16().requires_grad_(False)
    average = deepcopy(tuned)
    weights = MasterWeights(tuned, DECODER_PEAK_LR, ema=0.998)
    resume(state, weights, budget)
    random = np.random.default_rng([seed, team.rank(), weights.steps])
    torch.manual_seed(int(random.integers(2**63)))
    saved = budget.elapsed
    while budget.remains():
        pixels = _batch(training, random)
        with torch.no_grad():
            latent = encoder.encode(pixels.bfloat16())[0].float()
        output = tuned.decode((latent + 0.03 * torch.randn_like(latent)).bfloat16()).float()
        error = output - pixels
        (0.2 * error.abs().mean() + 4 * error.square().mean()).backward()  # type: ignore[no-untyped-call]
        weights.step(cosine(DECODER_PEAK_LR, budget.fraction))
        if team.rank() == 0 and budget.elapsed - saved > 60:
            saved = budget.elapsed
            save_state(state, weights, budget)
            weights.write_average(average)
            report(f"decoder {budget.fraction:4.0%}: step {weights.steps}, {psnr(average, 100):.2f} dB")
    weights.write_average(average)
    return average.requires_grad_(False)


def _batch(training: NDArray[np.uint8], random: np.random.Generator) -> Tensor:
    """A batch of pictures, half of them mirrored and half with their colour channels in another order.

    Without the other colour orders, the autoencoder learns which things have which colours, and makes a thing grey if it has not
    seen it in that colour.
    """
    chosen = training[random.integers(len(training), size=BATCH)]
    chosen = np.stack([picture[..., random.permutation(3)] if i % 2 else picture for i, picture in enumerate(chosen)])
    return to_tensor(np.concatenate([chosen[: BATCH // 2], chosen[BATCH // 2 :, :, ::-1]]))


@torch.no_grad()
def encode_all(model: AutoencoderKL, training: NDArray[np.uint8], batch: int = 250) -> Tensor:
    """Latent means of all pictures, (N, 4, h, w) float16, computed in bfloat16; each process of the team encodes a part."""
    coder = deepcopy(model).bfloat16()
    latents = torch.zeros(len(training), model.config.latent_channels, *(s // model.config.factor for s in training.shape[1:3]))
    for start in range(team.rank() * batch, len(training), team.size() * batch):
        pixels = to_tensor(training[start : start + batch]).bfloat16()
        latents[start : start + batch] = coder.encode(pixels)[0].float()
    team.add(latents)
    return latents.half()


@torch.no_grad()
def psnr(model: AutoencoderKL, count: int = 500) -> float:
    """Peak signal-to-noise ratio in dB, from the mean squared error over 8-bit pictures that are not in the training set."""
    held_out = np.concatenate([pictures("valid", count // 2), pictures("held-out", count - count // 2)])
    total = 0.0
    for start in range(0, count, 100):
        original = held_out[start : start + 100]
        decoded = to_pixels(model.decode(model.encode(to_tensor(original))[0]))
        total += float(np.square(decoded.astype(np.float64) - original).mean(axis=(1, 2, 3)).sum())
    return 10 * math.log10(255**2 / (total / count))
