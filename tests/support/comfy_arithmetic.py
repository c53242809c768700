"""What ComfyUI computes for Stable Diffusion 1, written down in plain torch around the networks of a checkpoint."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.checkpoint import describe, load_text_encoder, load_unet, load_vae
from nodegraph_diffusion.text.encode import encode_prompt
from nodegraph_diffusion.text.tokenizer import load_tokenizer

SCALE = 0.18215

Denoise = Callable[[Tensor, float], Tensor]


class Arithmetic:
    """The networks of a checkpoint in float32, and the formulas around them."""

    def __init__(self, path: Path) -> None:
        model = describe(path).model()
        self.unet = load_unet(model.unet, "cpu", torch.float32)
        self.vae = load_vae(model.vae, "cpu", torch.float32)
        self._text = load_text_encoder(model.text.parts[0], "cpu", torch.float32)
        self._tokenizer = load_tokenizer(model.text.parts[0].tokenizer)
        betas = torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2
        signal = (1 - betas).cumprod(0)
        self.training_sigmas = ((1 - signal) / signal).sqrt().float()

    def prompt(self, text: str) -> Tensor:
        """The encoding (1, 77, width) of a text."""
        return encode_prompt(self._text, self._tokenizer, text)

    def encode(self, pixels: Tensor) -> Tensor:
        """The scaled latent of pixels (B, H, W, 3) in [0, 1]."""
        with torch.no_grad():
            mean, _ = self.vae.encode(pixels.movedim(-1, 1) * 2 - 1)
        return mean * SCALE

    def predict(self, x: Tensor, sigma: float, context: Tensor, beside: Tensor | None = None) -> Tensor:
        """The denoised x under a prompt; `beside` are channels that the network sees, too."""
        timestep = int((self.training_sigmas.log() - math.log(sigma)).abs().argmin())
        scaled = x / math.sqrt(sigma**2 + 1)
        seen = scaled if beside is None else torch.cat([scaled, beside.expand(len(x), -1, -1, -1)], dim=1)
        with torch.no_grad():
            noise: Tensor = self.unet(seen, torch.full((len(x),), float(timestep)), context.expand(len(x), -1, -1))
        return x - sigma * noise

    def guided(self, positive: str, negative: str, cfg: float, beside: Tensor | None = None) -> Denoise:
        """Classifier-free guidance."""
        texts = self.prompt(positive), self.prompt(negative)

        def denoise(x: Tensor, sigma: float) -> Tensor:
            good, bad = (self.predict(x, sigma, text, beside) for text in texts)
            return bad + cfg * (good - bad)

        return denoise

    def simple(self, steps: int) -> list[float]:
        """The scheduler `simple`: every (1000 / steps)th noise level of the training, from the largest."""
        return [float(self.training_sigmas[-(1 + int(i * 1000 / steps))]) for i in range(steps)] + [0.0]


def drawn(seed: int, *shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def euler(denoise: Denoise, x: Tensor, sigmas: list[float]) -> Tensor:
    for sigma, following in itertools.pairwise(sigmas):
        x = x + (x - denoise(x, sigma)) / sigma * (following - sigma)
    return x


def masked(denoise: Denoise, latent: Tensor, noise: Tensor, mask: Tensor) -> Denoise:
    """The denoiser under a noise mask (1, H, W), which only changes what is white."""
    cells = F.interpolate(mask[:, None], size=latent.shape[-2:], mode="bilinear")

    def changed(x: Tensor, sigma: float) -> Tensor:
        x = x * cells + (latent + noise * sigma) * (1 - cells)
        return denoise(x, sigma) * cells + latent * (1 - cells)

    return changed
