"""Descriptions of models and their parts on disk, made before any weight is read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.families import XL_SCALING_FACTOR, Kind, Naming, Part
from nodegraph_diffusion.networks.config import CLIPTextConfig, LatentSpace, UNetConfig, VAEConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule

EXTRA_CHANNELS = (0, 4, 5)  # input channels of a UNet besides the latent: none, those of a picture, or of a mask and a picture
_OTHER_MODELS = "The parts belong to different models."


@dataclass(frozen=True)
class Weights:
    """The files that hold the tensors of a part, the prefix of their names there, and the naming scheme."""

    part: Part
    naming: Naming
    paths: tuple[Path, ...]
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class UNetPart:
    """A denoising network on disk, and what it was trained with.

    `latent` is the latent space in which it denoises. `files` are all files that affect its output, in a fixed order. `reason`
    says how its prediction type is known; `notes` what was ignored or assumed. Raises CheckpointError if it has input channels
    that no published UNet has, and its config does not say what they show.
    """

    path: Path
    kind: Kind
    config: UNetConfig
    weights: Weights
    noise_schedule: NoiseSchedule
    latent: LatentSpace
    files: tuple[Path, ...]
    reason: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        channels = self.config.out_channels
        if self.config.beside is None and self.config.in_channels - channels not in EXTRA_CHANNELS:
            raise CheckpointError(
                self.path,
                expected=f"a UNet with {channels} channels out and {channels}, {channels + 4} or {channels + 5} in",
                found=f"one with {self.config.in_channels} in and {channels} out",
                hint="Give a model for text-to-image, inpainting or InstructPix2Pix.",
            )


@dataclass(frozen=True, kw_only=True)
class VAEPart:
    """An autoencoder on disk. `reason` says how its scaling factor is known.

    `trained_size` is the native side, in pixels, of the model that contains it; None if it is not part of a whole model.
    """

    path: Path
    config: VAEConfig
    weights: Weights
    files: tuple[Path, ...]
    reason: str
    trained_size: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def sample_size(self) -> int:
        """The native side, in pixels, of the model that it belongs to. Without a whole model, its scaling factor decides."""
        return self.trained_size or (1024 if self.config.scaling_factor == XL_SCALING_FACTOR else 512)


@dataclass(frozen=True, kw_only=True)
class TextPart:
    """One text encoder on disk. `tokenizer` is the folder of its tokenizer; None stands for the standard CLIP vocabulary."""

    path: Path
    config: CLIPTextConfig
    weights: Weights
    files: tuple[Path, ...]
    tokenizer: Path | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class TextEncoders:
    """The text encoders of a model, in the order in which a UNet attends to their outputs. `reason` says how `kind` is known."""

    path: Path
    kind: Kind
    parts: tuple[TextPart, ...]
    reason: str

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that affect their outputs, each once."""
        return tuple(dict.fromkeys(file for part in self.parts for file in part.files))

    @property
    def notes(self) -> tuple[str, ...]:
        """What was ignored or assumed."""
        return tuple(dict.fromkeys(note for part in self.parts for note in part.notes))

    @property
    def width(self) -> int:
        """The numbers that all of them together give for a token."""
        return sum(part.config.width for part in self.parts)


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A whole model on disk, with its parts.

    `files` are all files that affect its outputs, in a fixed order. `reason` says in one line how `kind` is known; `notes` what was
    ignored or assumed, also in its parts. Raises CheckpointError if the parts do not fit each other.
    """

    path: Path
    layout: Literal["ldm", "diffusers"]
    kind: Kind
    unet: UNetPart
    vae: VAEPart
    text: TextEncoders
    files: tuple[Path, ...]
    reason: str
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        latent, unet = self.vae.config.latent_channels, self.unet.config
        if unet.out_channels != latent:
            raise CheckpointError(
                self.path,
                expected=f"a UNet with {latent} channels out, as the autoencoder's latent has",
                found=f"one with {unet.in_channels} in and {unet.out_channels} out",
                hint=_OTHER_MODELS,
            )
        if unet.context_dim != self.text.width:
            raise CheckpointError(
                self.path,
                expected=f"text encoders of {unet.context_dim} numbers a token, which the UNet attends to",
                found=f"{len(self.text.parts)} of {self.text.width}",
                hint=_OTHER_MODELS,
            )
        if unet.added_dim is not None and self.text.parts[-1].config.projection is None:
            raise CheckpointError(
                self.path,
                expected="a UNet that receives only a prompt, as the text encoder has no projection",
                found=f"one that receives {unet.added_dim} more numbers, such as that of Stable unCLIP",
                hint="Only Stable Diffusion 1, 2 and XL are supported.",
            )

    @property
    def sample_size(self) -> int:
        """The native side in pixels."""
        return self.vae.sample_size

    @property
    def noise_schedule(self) -> NoiseSchedule:
        """The noise that the UNet was trained with."""
        return self.unet.noise_schedule
