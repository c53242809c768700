"""What is known of a checkpoint before any weight is read: a record for each part, and the model that they make up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.networks.config import CLIPTextConfig, LatentSpace, UNetConfig, VAEConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule

Part = Literal["unet", "vae", "text_encoder", "text_encoder_2"]
Kind = Literal["sd1", "sd2", "sdxl", "sdxl-refiner"]
Naming = Literal["ldm", "diffusers", "openclip", "transformers"]

TEXT_PARTS: tuple[Part, Part] = ("text_encoder", "text_encoder_2")
NAMES: dict[Kind, str] = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "sdxl-refiner": "Stable Diffusion XL's refiner",
}
SEEN_BESIDE = (0, 4, 5)  # channels that a UNet may see beside the latent: none, a picture's, or a mask's and a picture's

_XL_SCALE = 0.13025


def scaling_factor(kind: Kind) -> float:
    """What the latents of a family's autoencoder are multiplied by."""
    return _XL_SCALE if kind.startswith("sdxl") else VAEConfig.scaling_factor


@dataclass(frozen=True)
class Weights:
    """Where the tensors of a part lie: in these safetensors files, below `prefix`, under somebody's names."""

    part: Part
    naming: Naming
    paths: tuple[Path, ...]
    prefix: str = ""


@dataclass(frozen=True)
class UNetPart:
    """A denoising network on disk, and what it was trained with.

    `latent` is the space that it denoises in. `files` are all that what it computes depends on, in a fixed order. `reason` says how
    it is known what it predicts. Raises CheckpointError for one that sees what no published one does.
    """

    path: Path
    kind: Kind
    config: UNetConfig
    weights: Weights
    schedule: NoiseSchedule
    latent: LatentSpace
    files: tuple[Path, ...]
    reason: str

    def __post_init__(self) -> None:
        channels = self.config.out_channels
        if self.config.in_channels - channels not in SEEN_BESIDE:
            raise CheckpointError(
                self.path,
                expected=f"a UNet with {channels} channels out and {channels}, {channels + 4} or {channels + 5} in",
                found=f"one with {self.config.in_channels} in and {channels} out",
                hint="Give a model for text-to-image, inpainting or InstructPix2Pix.",
            )


@dataclass(frozen=True)
class VAEPart:
    """An autoencoder on disk. `trained_size` is the native side, in pixels, of the model that it lies in (None: it lies alone).

    `reason` says how its scaling factor is known.
    """

    path: Path
    config: VAEConfig
    weights: Weights
    files: tuple[Path, ...]
    reason: str
    trained_size: int | None = None

    @property
    def sample_size(self) -> int:
        """The native side, in pixels, of the model that it is for: what its scaling factor says, where it lies alone."""
        return self.trained_size or (1024 if self.config.scaling_factor == _XL_SCALE else 512)


@dataclass(frozen=True)
class TextPart:
    """One text encoder on disk. `tokenizer` is its tokenizer's folder (None: the standard CLIP vocabulary)."""

    path: Path
    config: CLIPTextConfig
    weights: Weights
    files: tuple[Path, ...]
    tokenizer: Path | None = None


@dataclass(frozen=True)
class TextEncoders:
    """The text encoders of a model, in the order in which a UNet attends to what they give. `reason` says how `kind` is known."""

    path: Path
    kind: Kind
    parts: tuple[TextPart, ...]
    reason: str

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that their outputs depend on, each once."""
        return tuple(dict.fromkeys(file for part in self.parts for file in part.files))

    @property
    def width(self) -> int:
        """Numbers a token of all of them together."""
        return sum(part.config.width for part in self.parts)


@dataclass(frozen=True)
class Checkpoint:
    """A whole model on disk, made up of its parts.

    `files` are all that its outputs depend on, in a fixed order. `reason` says in a line what it was taken for, and why. Raises
    CheckpointError where the parts do not fit each other.
    """

    path: Path
    layout: Literal["ldm", "diffusers"]
    kind: Kind
    unet: UNetPart
    vae: VAEPart
    text: TextEncoders
    files: tuple[Path, ...]
    reason: str

    def __post_init__(self) -> None:
        latent, unet = self.vae.config.latent_channels, self.unet.config
        if unet.out_channels != latent:
            raise CheckpointError(
                self.path,
                expected=f"a UNet with {latent} channels out, as the autoencoder's latent has",
                found=f"one with {unet.in_channels} in and {unet.out_channels} out",
                hint="The parts belong to different models.",
            )
        if unet.context_dim != self.text.width:
            raise CheckpointError(
                self.path,
                expected=f"text encoders of {unet.context_dim} numbers a token, which the UNet attends to",
                found=f"{len(self.text.parts)} of {self.text.width}",
                hint="The parts belong to different models.",
            )

    @property
    def sample_size(self) -> int:
        """The native side in pixels."""
        return self.vae.sample_size

    @property
    def schedule(self) -> NoiseSchedule:
        """The noise that the UNet was trained with."""
        return self.unet.schedule
