"""What goes wrong with a checkpoint."""

from __future__ import annotations

from pathlib import Path

DOWNLOAD_AGAIN = "Download or copy the file again."
NOT_A_CHECKPOINT = "Give a .safetensors file or a diffusers folder."


class CheckpointError(Exception):
    """A file or folder that is no checkpoint, a damaged one, or one of a kind that is not supported."""

    def __init__(self, path: Path | str, *, expected: str, found: str, hint: str) -> None:
        super().__init__(f"{path}: expected {expected}, found {found}. {hint}")
        self.path = path
        self.expected = expected
        self.found = found
        self.hint = hint
