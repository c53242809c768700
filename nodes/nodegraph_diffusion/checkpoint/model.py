"""What is known of a checkpoint before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.config import CLIPTextConfig, UNetConfig, VAEConfig
from nodegraph_diffusion.schedule import NoiseSchedule

Part = Literal["unet", "vae", "text_encoder", "text_encoder_2"]
Kind = Literal["sd1", "sd2", "sdxl", "sdxl-refiner"]

TEXT_PARTS: tuple[Part, Part] = ("text_encoder", "text_encoder_2")
NAMES: dict[Kind, str] = {
    "sd1": "Stable Diffusion 1.x",
    "sd2": "Stable Diffusion 2.x",
    "sdxl": "Stable Diffusion XL",
    "sdxl-refiner": "Stable Diffusion XL's refiner",
}
SEEN_BESIDE = (0, 4, 5)  # channels that a UNet may see beside the latent: none, a picture's, or a mask's and a picture's


@dataclass(frozen=True)
class Checkpoint:
    """A published model on disk: where its parts lie and how they are sized.

    `texts` are its text encoders, `tokenizers` their tokenizers' folders (None: the standard CLIP vocabulary), `sample_size` the
    native side in pixels. `weights` gives the files of each part, the text encoders' in the order of `texts`;
    `files` every file that its outputs depend on, in a fixed order. `reason` says in a line what it was taken for, and why.
    """

    path: Path
    layout: Literal["ldm", "diffusers"]
    kind: Kind
    unet: UNetConfig
    vae: VAEConfig
    texts: tuple[CLIPTextConfig, ...]
    schedule: NoiseSchedule
    sample_size: int
    tokenizers: tuple[Path | None, ...]
    weights: Mapping[Part, tuple[Path, ...]]
    files: tuple[Path, ...]
    reason: str = ""

    def __post_init__(self) -> None:
        latent = self.vae.latent_channels
        if self.unet.in_channels - latent not in SEEN_BESIDE or self.unet.out_channels != latent:
            raise CheckpointError(
                self.path,
                expected=f"a UNet with {latent} channels out, as the autoencoder's latent has, and {latent}, {latent + 4} or "
                f"{latent + 5} in",
                found=f"one with {self.unet.in_channels} in and {self.unet.out_channels} out",
                hint="Give a model for text-to-image, inpainting or InstructPix2Pix.",
            )
        width = sum(text.width for text in self.texts)
        if self.unet.context_dim != width:
            raise CheckpointError(
                self.path,
                expected=f"text encoders of {self.unet.context_dim} numbers a token, which the UNet attends to",
                found=f"{len(self.texts)} of {width}",
                hint="The parts belong to different models.",
            )

    @property
    def text_parts(self) -> tuple[Part, ...]:
        """The names of the text encoders' parts, in the order of `texts`."""
        return tuple(part for part in TEXT_PARTS if part in self.weights)
