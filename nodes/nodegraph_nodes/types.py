"""The values that nodes pass to each other. Importing this module does not import torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from nodegraph_nodes.model_files import OpenedFile, OpenedPart, Patch

if TYPE_CHECKING:
    from torch import Tensor

    from nodegraph_diffusion.checkpoint import ControlNetFile, TextPart, UNetPart, VAEPart
    from nodegraph_diffusion.conditioning.prompt import Prompt
    from nodegraph_diffusion.denoising import Denoiser as DenoiserFunction
    from nodegraph_diffusion.networks.config import LatentSpace


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
        """The rows and columns of pixels that the latent covers beyond `size`."""
        from nodegraph_diffusion.masks import padding

        return padding((self.samples.shape[-2], self.samples.shape[-1]), self.size)


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
    """A ControlNet on disk, with its files as they were opened.

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
