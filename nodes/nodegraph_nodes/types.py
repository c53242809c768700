"""The values that nodes pass to each other. Importing this module does not import torch."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, Literal, NamedTuple, TypeVar

from nodegraph_diffusion.checkpoint import TextPart, UNetPart, VAEPart

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph.plugin_api import FileState
    from nodegraph_diffusion.checkpoint import ControlNetFile, LoraFile
    from nodegraph_diffusion.conditioning.prompt import Prompt
    from nodegraph_diffusion.denoising import Denoiser as DenoiserFunction
    from nodegraph_diffusion.networks.config import LatentSpace

P = TypeVar("P", UNetPart, VAEPart, TextPart)


@dataclass(frozen=True, eq=False)
class Image:
    """Pictures: `pixels` (B, H, W, 3), float32 in [0, 1]."""

    pixels: Tensor


@dataclass(frozen=True, eq=False)
class Mask:
    """What to repaint: `values` (B, H, W), float32 in [0, 1]; 1 (white) is repainted, 0 (black) is kept."""

    values: Tensor


@dataclass(frozen=True, eq=False)
class Latent:
    """Encoded pictures: `samples` (B, C, h, w), float32, scaled as the UNet expects them.

    `size` is the height and width of the pictures in pixels. Encoding pads pictures if needed; decoding crops them to `size`.
    """

    samples: Tensor
    size: tuple[int, int]

    @property
    def padding(self) -> tuple[int, int]:
        """The rows and columns of pixels that the latent covers beyond `size`.

        The factor of an autoencoder is a power of two: here the smallest one with which the latent covers the pictures.
        """
        cells = self.samples.shape[-2:]
        factor = 1 << max(0, *(math.ceil(math.log2(side / count)) for side, count in zip(self.size, cells, strict=True)))
        return cells[0] * factor - self.size[0], cells[1] * factor - self.size[1]


@dataclass(frozen=True, eq=False)
class Conditioning:
    """Encoded prompts; several are mixed. Their tensors are float32 on the CPU."""

    prompts: tuple[Prompt, ...]


@dataclass(frozen=True, eq=False)
class Noise:
    """Noise to start from: `values` (B, C, h, w), float32 on the CPU, drawn from `seed`."""

    values: Tensor
    seed: int


@dataclass(frozen=True, eq=False)
class Sigmas:
    """The noise levels of a run: `values` (steps + 1,), float32 on the CPU, decreasing unless they were reversed."""

    values: Tensor


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A function of (x, sigma) that returns the denoised x, both (B, C, h, w), and knows the model's noise levels.

    `latent` describes the latents that it denoises; previews need it.
    """

    function: DenoiserFunction
    latent: LatentSpace | None = None


class OpenedFile(NamedTuple):
    """A file, and the state in which it was opened."""

    path: Path
    state: FileState


@dataclass(frozen=True, eq=False)
class OpenedPart(Generic[P]):
    """A part of a model on disk, and the state in which its files were opened."""

    part: P
    files: tuple[OpenedFile, ...]


@dataclass(frozen=True)
class Patch:
    """A LoRA or similar file to apply at `strength`, and the state in which its files were opened.

    Two patches are equal if their files and strengths are: the files determine `lora`, their description.
    """

    lora: LoraFile = field(compare=False)
    files: tuple[OpenedFile, ...]
    strength: float


@dataclass(frozen=True, eq=False)
class Concat:
    """Channels to concatenate to the latent for a UNet of this `kind`: `values` (B, C, h, w), float32, scaled as it expects."""

    values: Tensor
    kind: Literal["inpaint", "pix2pix"]


@dataclass(frozen=True, eq=False)
class UNetModel:
    """A model's UNet, with the changes that adapter nodes made."""

    opened: OpenedPart[UNetPart]
    patches: tuple[Patch, ...] = ()
    controls: tuple[Control, ...] = ()
    concat: Concat | None = None

    @property
    def part(self) -> UNetPart:
        return self.opened.part


@dataclass(frozen=True, eq=False)
class ControlNetModel:
    """A ControlNet on disk, and the state in which its files were opened.

    `base` is the UNet to add the weights to if the files hold differences from a UNet.
    """

    file: ControlNetFile
    files: tuple[OpenedFile, ...]
    base: UNetModel | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class Control:
    """A ControlNet and the picture that it guides a UNet by, between `start` and `end`, fractions of the sampling."""

    control_net: ControlNetModel
    image: Image
    strength: float
    start: float
    end: float


@dataclass(frozen=True, eq=False)
class VAE:
    """A model's autoencoder."""

    opened: OpenedPart[VAEPart]

    @property
    def part(self) -> VAEPart:
        return self.opened.part


@dataclass(frozen=True, eq=False)
class TextEncoder:
    """A model's text encoders, with the changes that adapter nodes made.

    `embeddings` are the vectors that `embedding:NAME` in a prompt stands for, by name: for each encoder (n, width), float32, or
    None if the file has no vectors for it.
    """

    opened: tuple[OpenedPart[TextPart], ...]
    patches: tuple[Patch, ...] = ()
    embeddings: Mapping[str, tuple[Tensor | None, ...]] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[TextPart, ...]:
        return tuple(opened.part for opened in self.opened)
