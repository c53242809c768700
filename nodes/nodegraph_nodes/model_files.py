"""What a model's values remember about files: which ones they come from, and what these held when they were opened."""

from __future__ import annotations

from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Generic, TypeVar

from nodegraph.plugin_api import dataclass

if TYPE_CHECKING:
    from nodegraph.plugin_api import FileState
    from nodegraph_diffusion.checkpoint import LoraFile, TextPart, UNetPart, VAEPart

P = TypeVar("P", "UNetPart", "VAEPart", "TextPart")


@dataclass(frozen=True)
class OpenedFile:
    """A file, and what it held when it was opened.

    `content` is the digest of that; without an engine, the state of the file. `state` is one in which it held that: as long as the
    file is in it, nothing needs to be read to know that it is the same. Two are equal if path and content are.
    """

    path: Path
    content: str | FileState
    state: FileState = field(compare=False)


@dataclass(frozen=True, eq=False)
class OpenedPart(Generic[P]):
    """A part of a model on disk, with its files as they were opened."""

    part: P
    files: tuple[OpenedFile, ...]


@dataclass(frozen=True)
class Patch:
    """A LoRA or similar file to apply at `strength`, with its files as they were opened.

    Two patches are equal if their files and strengths are: the files determine `lora`, their description.
    """

    lora: LoraFile = field(compare=False)
    files: tuple[OpenedFile, ...]
    strength: float
