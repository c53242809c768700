"""Training of the denoiser: a UNet that predicts the velocity of noisy latents, given a caption."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from random import Random

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet, UNetConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.recipes.tiny.data import scene
from nodegraph_diffusion.recipes.tiny.text import WIDTH
from nodegraph_diffusion.recipes.tiny.vocabulary import vocabulary
from nodegraph_diffusion.recipes.tiny.world import Scene, caption
from nodegraph_diffusion.recipes.tiny.world.scene import PROPORTIONS
from nodegraph_diffusion.training import team
from nodegraph_diffusion.training.budget import Budget, cosine
from nodegraph_diffusion.training.noising.targets import add_noise, min_snr_weight, training_target
from nodegraph_diffusion.training.optimiser import MasterWeights, resume, save_state
from nodegraph_diffusion.training.speed import prepare_for_training

CONFIG = UNetConfig(
    model_channels=64,
    channel_mult=(1, 2),
    num_res_blocks=1,
    transformer_depth=(0, 1),
    num_heads=4,
    context_dim=WIDTH,
    norm_groups=16,
)
SCHEDULE = NoiseSchedule(prediction="v")
BATCH = 32  # in each process
PEAK_LR = 1e-3
CAPTION_DROPOUT = 0.1
SNR_CAP = 5.0
THING_WEIGHT = 2.0
"""The loss weight inside a thing's box; the background, which is easy, has 1."""


def thing_weights(scene: Scene, cells: int) -> np.ndarray:
    """The loss weight of each latent cell, (cells, cells) float32: THING_WEIGHT in the box of a thing, 1 elsewhere."""
    weights = np.ones((cells, cells), np.float32)
    for thing in scene.things:
        width, height = (cells * thing.size * proportion for proportion in PROPORTIONS[thing.kind])
        left, right = cells * thing.x - width / 2, cells * thing.x + width / 2
        top, foot = cells * thing.base - height, cells * thing.base
        weights[max(0, int(top)) : int(np.ceil(foot)), max(0, int(left)) : int(np.ceil(right))] = THING_WEIGHT
    return weights


def velocity_loss(predicted: Tensor, latent: Tensor, noise: Tensor, *, signal: Tensor, weights: Tensor) -> Tensor:
    """Squared error of the velocity sqrt(a) noise - sqrt(1 - a) latent (Salimans and Ho 2022), min-SNR weighted.

    `signal` is a, the signal's share of the variance, (B, 1, 1, 1). The weight min(SNR, 5) / (SNR + 1) is that of Hang et
    al. 2023, sec. 3.4, for velocities; it is multiplied by `weights`, (B, 1, h, w).
    """
    velocity = training_target("v", clean=latent, noise=noise, signal=signal)
    weights = weights * min_snr_weight("v", signal, SNR_CAP)
    return (weights * (predicted - velocity).square()).mean()


class Batches:
    """Random training batches: noisy latents, encoded captions, and the other inputs of the loss."""

    def __init__(self, latents: Tensor, text_encoder: CLIPTextModel, seed: list[int]) -> None:
        self.latents = latents
        self.scenes = [scene("train", index) for index in range(len(latents))]
        self.weights = torch.from_numpy(np.stack([thing_weights(each, latents.shape[-1]) for each in self.scenes])).half()
        self.text_encoder = text_encoder
        self.signal = SCHEDULE.alphas_cumprod().float()
        self.generator = np.random.default_rng(seed)
        self.random = Random(int(self.generator.integers(2**63)))
        torch.manual_seed(int(self.generator.integers(2**63)))

    @torch.no_grad()
    def contexts(self, scenes: list[Scene]) -> Tensor:
        """Encoded captions, (B, L, WIDTH); a tenth of them are of the empty caption."""
        texts = ["" if self.random.random() < CAPTION_DROPOUT else caption(each, self.random) for each in scenes]
        encoded: Tensor = self.text_encoder(torch.tensor([vocabulary().tokens(text) for text in texts]))
        return encoded

    def loss(self, unet: UNet) -> Tensor:
        """The loss of a new batch."""
        chosen = self.generator.integers(len(self.latents), size=BATCH)
        latent = self.latents[chosen].float()
        timesteps = torch.randint(SCHEDULE.steps, (BATCH,))
        signal = self.signal[timesteps].view(-1, 1, 1, 1)
        noise = torch.randn_like(latent)
        noisy = add_noise(latent, noise, signal)
        context = self.contexts([self.scenes[index] for index in chosen])
        noisy = noisy.bfloat16().contiguous(memory_format=torch.channels_last)
        predicted = unet(noisy, timesteps.float(), context.bfloat16()).float()
        return velocity_loss(predicted, latent, noise, signal=signal, weights=self.weights[chosen, None].float())


def train_denoiser(
    latents: Tensor,
    text_encoder: CLIPTextModel,
    budget: Budget,
    *,
    state: Path,
    seed: int,
    report: Callable[[str], None],
    on_checkpoint: Callable[[UNet], None],
    checkpoint_seconds: float,
) -> UNet:
    """Train the UNet from scratch on (N, 4, h, w) latents of the training scenes. Returns the average weights, float32.

    `on_checkpoint` receives the average weights every `checkpoint_seconds`, only in process 0.
    """
    torch.manual_seed(seed)
    unet = UNet(CONFIG)
    average = deepcopy(unet).requires_grad_(False)
    prepare_for_training(unet)
    weights = MasterWeights(unet, PEAK_LR, ema=0.9995)
    resume(state, weights, budget)
    batches = Batches(latents, text_encoder, [seed, team.rank(), weights.steps])
    saved = seen = budget.elapsed
    running = 0.0
    with sdpa_kernel(SDPBackend.MATH):  # its backward pass is faster at these sizes
        while budget.remains():
            loss = batches.loss(unet)
            loss.backward()  # type: ignore[no-untyped-call]
            weights.step(cosine(PEAK_LR, budget.fraction))
            running += (float(loss.detach()) - running) * 0.01
            if team.rank() == 0 and budget.elapsed - saved > 60:
                saved = budget.elapsed
                save_state(state, weights, budget)
                report(f"denoiser {budget.fraction:4.0%}: {weights.steps * BATCH * team.size()} samples, loss {running:.4f}")
            if team.rank() == 0 and budget.elapsed - seen > checkpoint_seconds:
                seen = budget.elapsed
                weights.write_average(average)
                on_checkpoint(average)
    weights.write_average(average)
    return average
