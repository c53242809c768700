"""Checkpoints on disk: what lies at a path (`detect`, without torch), its networks, and writing a model as a folder."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nodegraph_diffusion.checkpoint.detect.detect import detect, detect_texts, detect_unet, detect_vae, identify, paired
from nodegraph_diffusion.checkpoint.detect.model import Checkpoint, TextEncoders, TextPart, UNetPart, VAEPart
from nodegraph_diffusion.checkpoint.errors import CheckpointError

if TYPE_CHECKING:
    from nodegraph_diffusion.checkpoint.load.load import load_text_encoder, load_unet, load_vae, verify
    from nodegraph_diffusion.checkpoint.write.save import save_diffusers

__all__ = [
    "Checkpoint",
    "CheckpointError",
    "TextEncoders",
    "TextPart",
    "UNetPart",
    "VAEPart",
    "detect",
    "detect_texts",
    "detect_unet",
    "detect_vae",
    "identify",
    "load_text_encoder",
    "load_unet",
    "load_vae",
    "paired",
    "save_diffusers",
    "verify",
]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{'write.save' if name == 'save_diffusers' else 'load.load'}"), name)
