"""What a file is refused with: what is wrong, and which node takes what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodegraph_diffusion.checkpoint import CheckpointError
    from nodegraph_diffusion.checkpoint.errors import Content

TAKEN_BY: Final[Mapping[Content, str]] = {
    "model": "LoadModel",
    "unet": "LoadUNet",
    "vae": "LoadVAE",
    "text_encoder": "LoadTextEncoder",
    "lora": "LoadLora",
    "controlnet": "LoadControlNet",
    "embedding": "LoadEmbedding",
}


def refusal(error: CheckpointError) -> ValueError:
    """The error that a node raises; one that was given a file of another kind names the node that takes it."""
    return ValueError(str(error) if error.holds is None else f"{error} {TAKEN_BY[error.holds]} takes what this is.")
