"""What a file is refused with: what is wrong, and which node takes what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nodegraph_diffusion.checkpoint import CheckpointError, Content

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
    if error.holds is None:
        return ValueError(str(error))
    taken = f"found {error.found}, which {TAKEN_BY[error.holds]} takes"
    return ValueError(f"{error.path}: expected {error.expected}, {taken}. {error.hint}")
