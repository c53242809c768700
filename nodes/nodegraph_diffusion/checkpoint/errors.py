"""The error of this package: a file or folder that is not a checkpoint, or not of the expected kind."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, Literal

ExtraContent = Literal["upscaler", "image_encoder", "t2i_adapter", "gligen"]
"""The networks beside those of a model."""

Content = Literal["model", "unet", "vae", "text_encoder", "lora", "controlnet", "embedding"] | ExtraContent
"""What a file or folder can hold that something can load."""

DOWNLOAD_AGAIN = "Download or copy the file again."
CHECK_PATH = "Check the path; relative ones start from the workflow's folder or, with --set, from the current one."
NOT_A_CHECKPOINT = "Give a .safetensors file or a diffusers folder."


class CheckpointError(Exception):
    """A file or folder that is not a checkpoint, is damaged, or is of a kind that is not supported.

    `holds` is what it holds instead, if that can be loaded.
    """

    def __init__(self, path: Path | str, *, expected: str, found: str, hint: str, holds: Content | None = None) -> None:
        super().__init__(f"{path}: expected {expected}, found {found}. {hint}")
        self.path = path
        self.expected = expected
        self.found = found
        self.hint = hint
        self.holds = holds

    def __reduce__(self) -> tuple[Any, ...]:
        """Errors of other parts of a model are in its description, which may go to another process."""
        return partial(type(self), expected=self.expected, found=self.found, hint=self.hint, holds=self.holds), (self.path,)
