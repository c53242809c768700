"""The port types of the pack. No torch behind them until a value is made."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nodegraph import Run
    from nodegraph_diffusion.checkpoint import Checkpoint
    from nodegraph_diffusion.clip import CLIPTextModel
    from nodegraph_diffusion.guidance import Denoiser as DenoiserFunction
    from nodegraph_diffusion.tokenizer import Tokenizer
    from nodegraph_diffusion.unet import UNet
    from nodegraph_diffusion.vae import AutoencoderKL

T = TypeVar("T")


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

    @property
    def padding(self) -> tuple[int, int]:
        """The rows and columns of pixels that the latent covers beyond `size`.

        An autoencoder's factor is a power of two: the least one with which the latent covers the pictures.
        """
        cells = self.samples.shape[-2:]
        factor = 1 << max(0, *(math.ceil(math.log2(side / count)) for side, count in zip(self.size, cells, strict=True)))
        return cells[0] * factor - self.size[0], cells[1] * factor - self.size[1]


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


@dataclass(frozen=True, eq=False)
class ModelFiles:
    """A checkpoint, and the state in which its files were when it was opened: what is loaded later is of this state."""

    checkpoint: Checkpoint
    state: tuple[tuple[Path, int, int, int, int], ...]

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> ModelFiles:
        """The files as they are now. Raises OSError where one is gone."""
        stats = ((file, file.stat()) for file in checkpoint.files)
        return cls(checkpoint, tuple((file, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) for file, stat in stats))

    def resident(self, run: Run, part: str, dtype: torch.dtype | None, load: Callable[[], T]) -> T:
        """What `load()` gives, kept by the run. Raises ValueError where the files are damaged, or others than before."""
        from nodegraph_diffusion.checkpoint import CheckpointError

        def loaded() -> T:
            value = load()
            self._require_unchanged()  # what was changed meanwhile is not kept
            return value

        self._require_unchanged()
        try:
            return run.resident((part, self.state, run.device, str(dtype)), loaded)
        except CheckpointError as error:
            raise ValueError(str(error)) from error

    def _require_unchanged(self) -> None:
        if ModelFiles.of(self.checkpoint).state != self.state:
            raise ValueError(f"the files of the model {self.checkpoint.path} were changed during the run. Run again")


@dataclass(frozen=True, eq=False)
class ModelPart:
    """A part of a checkpoint; it is loaded when a node first asks for it, and kept by the run."""

    files: ModelFiles

    @property
    def checkpoint(self) -> Checkpoint:
        return self.files.checkpoint


class UNetModel(ModelPart):
    """The denoising network of a checkpoint."""

    def load(self, run: Run) -> UNet:
        """On the run's device, in its dtype. Raises ValueError where the files do not hold it."""
        import torch

        from nodegraph_diffusion.checkpoint import load_unet

        dtype = torch.float32 if run.dtype == "auto" else getattr(torch, run.dtype)
        return self.files.resident(run, "unet", dtype, lambda: load_unet(self.checkpoint, run.device, dtype))


class VAE(ModelPart):
    """The autoencoder of a checkpoint."""

    def load(self, run: Run) -> AutoencoderKL:
        """On the run's device, in float32: published autoencoders overflow in float16. Raises ValueError as UNetModel's does."""
        import torch

        from nodegraph_diffusion.checkpoint import load_vae

        dtype = torch.float32
        return self.files.resident(run, "vae", dtype, lambda: load_vae(self.checkpoint, run.device, dtype))


class TextEncoder(ModelPart):
    """The text encoder of a checkpoint, and its tokenizer."""

    def load(self, run: Run) -> CLIPTextModel:
        """On the run's device, in float32: it runs once for a prompt. Raises ValueError as UNetModel's does."""
        import torch

        from nodegraph_diffusion.checkpoint import load_text_encoder

        dtype = torch.float32
        return self.files.resident(run, "text", dtype, lambda: load_text_encoder(self.checkpoint, run.device, dtype))

    def tokenizer(self, run: Run) -> Tokenizer:
        """The checkpoint's own, or CLIP's. Raises ValueError where its folder holds none."""
        from nodegraph_diffusion.tokenizer import load_tokenizer

        return self.files.resident(run, "tokenizer", None, lambda: load_tokenizer(self.checkpoint.tokenizer))
