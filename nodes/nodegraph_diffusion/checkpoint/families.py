"""The families of models that can be loaded, the parts of a model, and the naming schemes of its tensors."""

from __future__ import annotations

from typing import Literal

from nodegraph_diffusion.networks.config import VAEConfig

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
SAME_PARTS: dict[Kind, tuple[Kind, ...]] = {"sd1": ("sd2",), "sd2": ("sd1",)}
"""Other families whose models consist of the same parts: a model of one can be read as one of the other."""

XL_SCALING_FACTOR = 0.13025


def scaling_factor(kind: Kind) -> float:
    """The number that a family multiplies the latents of its autoencoder by."""
    return XL_SCALING_FACTOR if kind.startswith("sdxl") else VAEConfig.scaling_factor


def only_text_part(kind: Kind | None) -> Part | None:
    """The only text encoder of a model of this family; None for Stable Diffusion XL, which has two, and for an unknown family."""
    if kind in (None, "sdxl"):
        return None
    return "text_encoder_2" if kind == "sdxl-refiner" else "text_encoder"
