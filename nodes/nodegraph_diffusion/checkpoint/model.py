"""What is known of a checkpoint before any weight is read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.config import CLIPTextConfig, UNetConfig, VAEConfig
from nodegraph_diffusion.schedule import NoiseSchedule

Part = Literal["unet", "vae", "text_encoder"]


@dataclass(frozen=True)
class Checkpoint:
    """A published model on disk: where its parts lie and how they are sized.

    `sample_size` is its native side in pixels, `tokenizer` the tokenizer's folder (None: the standard CLIP vocabulary).
    `weights` gives the safetensors file of each part, `files` every file that its outputs depend on, in a fixed order.
    """

    path: Path
    layout: Literal["ldm", "diffusers"]
    kind: Literal["sd1"]
    unet: UNetConfig
    vae: VAEConfig
    text: CLIPTextConfig
    schedule: NoiseSchedule
    sample_size: int
    tokenizer: Path | None
    weights: Mapping[Part, Path]
    files: tuple[Path, ...]

    def __post_init__(self) -> None:
        latent = self.vae.latent_channels
        if (self.unet.in_channels, self.unet.out_channels) != (latent, latent):
            channels = f"{self.unet.in_channels} in and {self.unet.out_channels} out"
            names = {8: " (such as InstructPix2Pix)", 9: " (such as an inpainting model)"}
            raise CheckpointError(
                self.path,
                expected=f"a UNet with {latent} channels in and out, as the autoencoder's latent has",
                found=f"one with {channels}{names.get(self.unet.in_channels, '')}",
                hint="Give a text-to-image model of the Stable Diffusion 1.x family.",
            )
        if self.unet.context_dim != self.text.width:
            raise CheckpointError(
                self.path,
                expected=f"a text encoder of width {self.unet.context_dim}, which the UNet attends to",
                found=f"one of width {self.text.width}",
                hint="The parts belong to different models.",
            )
