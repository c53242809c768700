"""Errors about files, as nodes raise them: what is wrong, and which node loads the file."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from nodegraph_diffusion.checkpoint import CheckpointError

if TYPE_CHECKING:
    from nodegraph_diffusion.checkpoint import Content

TAKEN_BY: Final[Mapping[Content, str]] = {
    "model": "LoadModel",
    "unet": "LoadUNet",
    "vae": "LoadVAE",
    "text_encoder": "LoadTextEncoder",
    "lora": "LoadLora",
    "controlnet": "LoadControlNet",
    "embedding": "LoadEmbedding",
    "upscaler": "LoadUpscaler",
    "image_encoder": "LoadImageEncoder",
    "t2i_adapter": "LoadControlNet",
    "gligen": "LoadGligen",
}
"""The node to give a file to, by what the file holds."""


def file_error_message(error: CheckpointError) -> str:
    """The error in words. If the file holds something that another node takes, the message names that node."""
    if error.holds is None:
        return str(error)
    found = f"found {error.found}, which {TAKEN_BY[error.holds]} takes"
    return f"{error.path}: expected {error.expected}, {found}. {error.hint}"


@contextlib.contextmanager
def file_errors() -> Iterator[None]:
    """Raise a CheckpointError from the block as a ValueError with the message of `file_error_message`."""
    try:
        yield
    except CheckpointError as error:
        raise ValueError(file_error_message(error)) from error
