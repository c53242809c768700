"""What a model's values remember about files: which ones they come from, and the state in which these were opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from nodegraph.plugin_api import FileState
    from nodegraph_diffusion.checkpoint import LoraFile, TextPart, UNetPart, VAEPart

P = TypeVar("P", "UNetPart", "VAEPart", "TextPart")


class OpenedFile(NamedTuple):
    """A file, and the state in which it was opened."""

    path: Path
    state: FileState


@dataclass(frozen=True, eq=False)
class OpenedPart(Generic[P]):
    """A part of a model on disk, and the state in which its files were opened."""

    part: P
    files: tuple[OpenedFile, ...]


@dataclass(frozen=True)
class Patch:
    """A LoRA or similar file to apply at `strength`, and the state in which its files were opened.

    Two patches are equal if their files and strengths are: the files determine `lora`, their description.
    """

    lora: LoraFile = field(compare=False)
    files: tuple[OpenedFile, ...]
    strength: float
