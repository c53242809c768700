"""The port types of the pack. No torch behind them until a value is made."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nodegraph import Run
    from nodegraph_diffusion.checkpoint import Checkpoint
    from nodegraph_diffusion.clip import CLIPTextModel
    from nodegraph_diffusion.guidance import Denoiser as DenoiserFunction
    from nodegraph_diffusion.unet import UNet
    from nodegraph_diffusion.vae import AutoencoderKL

    N = TypeVar("N", bound=torch.nn.Module)


@dataclass(frozen=True, eq=False)
class Image:
    """Pictures: `pixels` (B, H, W, 3), float32 in [0, 1]."""

    pixels: Tensor


@dataclass(frozen=True, eq=False)
class Mask:
    """What is to be repainted: `values` (B, H, W), float32 in [0, 1]; 1, white, is repainted."""

    values: Tensor


@dataclass(frozen=True, eq=False)
class Latent:
    """Encoded pictures: `samples` (B, C, h, w), float32, scaled as the UNet sees them.

    `size` is the height and width of the pictures in pixels: decoding crops to it what encoding padded.
    """

    samples: Tensor
    size: tuple[int, int]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """An encoded prompt: `embedding` (1, L, D), float32."""

    embedding: Tensor


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise to start from: `values` (B, C, h, w), float32 on the CPU; `seed` is what it was drawn from."""

    values: Tensor
    seed: int


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A function of (x, sigma) that returns the denoised x, both (B, C, h, w), with the noise levels that it knows."""

    function: DenoiserFunction


@dataclass(frozen=True)
class UNetModel:
    """The denoising network of a checkpoint; it is loaded when a node first asks for it."""

    checkpoint: Checkpoint

    def load(self, run: Run) -> UNet:
        """On the run's device, in its dtype."""
        import torch

        from nodegraph_diffusion.checkpoint import load_unet

        dtype = torch.float32 if run.dtype == "auto" else getattr(torch, run.dtype)
        return _resident(run, self.checkpoint, "unet", dtype, lambda: load_unet(self.checkpoint, run.device, dtype))


@dataclass(frozen=True)
class VAE:
    """The autoencoder of a checkpoint; it is loaded when a node first asks for it."""

    checkpoint: Checkpoint

    def load(self, run: Run) -> AutoencoderKL:
        """On the run's device, in float32: published autoencoders overflow in float16."""
        import torch

        from nodegraph_diffusion.checkpoint import load_vae

        dtype = torch.float32
        return _resident(run, self.checkpoint, "vae", dtype, lambda: load_vae(self.checkpoint, run.device, dtype))


@dataclass(frozen=True)
class TextEncoder:
    """The text encoder of a checkpoint and its tokenizer; it is loaded when a node first asks for it."""

    checkpoint: Checkpoint

    def load(self, run: Run) -> CLIPTextModel:
        """On the run's device, in float32: it runs once for a prompt."""
        import torch

        from nodegraph_diffusion.checkpoint import load_text_encoder

        dtype = torch.float32
        return _resident(run, self.checkpoint, "text", dtype, lambda: load_text_encoder(self.checkpoint, run.device, dtype))


def _resident(run: Run, checkpoint: Checkpoint, part: str, dtype: torch.dtype, make: Callable[[], N]) -> N:
    stats = [file.stat() for file in checkpoint.files]
    state: Hashable = tuple((str(file), s.st_size, s.st_mtime_ns) for file, s in zip(checkpoint.files, stats, strict=True))
    return run.resident((part, state, run.device, str(dtype)), make)
