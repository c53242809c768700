"""Samples per second of a denoiser's training step: ours, and that of diffusers' UNet2DConditionModel in plain PyTorch.

Both networks have the embedded model's sizes and see the same batches. A step is noise, prediction, loss, gradients, clipping,
AdamW and the moving average. The two take turns in one process, so that what else the machine does hits both.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import Any

import diffusers
import torch
from diffusers.training_utils import EMAModel
from torch import Tensor

from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.recipes.tiny.denoiser import CONFIG
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.trainer import Trainer
from nodegraph_diffusion.training.noising.objective import Objective
from nodegraph_diffusion.training.tasks.conditions import EncodedCondition
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents, DenoiserTask
from tests.support.small_networks import reference_unet

TOKENS = 24
CELLS = 16


class Noise:
    """Random latents with random contexts."""

    def __init__(self, count: int) -> None:
        self.latents = torch.randn(count, CONFIG.in_channels, CELLS, CELLS)
        self.contexts = torch.randn(count, TOKENS, CONFIG.context_dim)

    def __len__(self) -> int:
        return len(self.latents)

    def batch(self, indices: list[int], generator: torch.Generator) -> ConditionedLatents:
        """The latents with these indices."""
        return ConditionedLatents(latent=self.latents[indices], condition=self.contexts[indices])


def our_step(examples: Noise, batch: int) -> Callable[[], None]:
    """A step of our trainer."""
    condition = EncodedCondition(torch.zeros(TOKENS, CONFIG.context_dim))
    task = DenoiserTask(UNet(CONFIG), condition, Objective(), log_bound=False)
    options = TrainingOptions(steps=10**6, batch=batch, save_every=10**6, log_every=10**6)
    return Trainer(task, examples, options).advance


def diffusers_step(examples: Noise, batch: int) -> Callable[[], None]:
    """A step as in diffusers' training examples."""
    unet = reference_unet(CONFIG).train().requires_grad_(True)
    scheduler: Any = diffusers.DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.00085, beta_end=0.012)
    optimiser = torch.optim.AdamW(unet.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
    average = EMAModel(unet.parameters(), decay=0.999)

    def step() -> None:
        chosen = torch.randint(len(examples), (batch,))
        latent, context = examples.latents[chosen], examples.contexts[chosen]
        noise, steps = torch.randn_like(latent), torch.randint(1000, (batch,))
        predicted: Tensor = unet(scheduler.add_noise(latent, noise, steps), steps, context).sample
        torch.nn.functional.mse_loss(predicted, noise).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.step(unet.parameters())

    return step


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training", description=__doc__)
    parser.add_argument("--batch", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=20, help="steps of each, taking turns (default: %(default)s)")
    parser.add_argument("--threads", type=int, help="default: as many as there are cores")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    examples = Noise(256)
    steps = {"ours": our_step(examples, options.batch), "diffusers": diffusers_step(examples, options.batch)}
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(options.rounds + 2):
        for name, step in steps.items():
            started = time.perf_counter()
            step()
            if number >= 2:  # the first two warm up
                seconds[name].append(time.perf_counter() - started)
    speeds = {name: options.batch / statistics.median(times) for name, times in seconds.items()}
    for name, speed in speeds.items():
        print(f"{name}: {speed:.1f} samples per second")
    print(f"ours / diffusers: {speeds['ours'] / speeds['diffusers']:.2f}")


if __name__ == "__main__":
    main()
