"""The latents of the training scenes, in files of a few hundred each, so that the work can be stopped at any time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.recipes.embedded.data import pictures, training_scene
from nodegraph_diffusion.recipes.pixels import to_tensor
from nodegraph_diffusion.training.loop.state import write_state

BLOCK = 250


@torch.no_grad()
def encode_scenes(model: AutoencoderKL, folder: Path, count: int, stop: Callable[[], bool]) -> bool:
    """Write the latent means of the first `count` training scenes that the folder lacks; returns whether it has all of them."""
    for start in range(0, count, BLOCK):
        file = folder / f"{start:06d}.safetensors"
        if file.exists():
            continue
        if stop():
            return False
        scenes = [training_scene(index) for index in range(start, min(start + BLOCK, count))]
        latents = torch.cat([model.encode(to_tensor(pictures(scenes[i : i + 25])))[0] for i in range(0, len(scenes), 25)])
        write_state(file, {"latents": latents.half()}, {"first": start})
    return True


def read_latents(folder: Path, count: int) -> Tensor:
    """The latents of the first `count` training scenes, (count, c, h, w) float16."""
    files = [folder / f"{start:06d}.safetensors" for start in range(0, count, BLOCK)]
    return torch.cat([load_file(file)["latents"] for file in files])[:count]
