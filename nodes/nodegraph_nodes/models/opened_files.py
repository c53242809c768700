"""The files of a model in the state in which they were opened, and the check that they are still in it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nodegraph.plugin_api import FileState
from nodegraph_nodes.model_files import OpenedFile, OpenedPart, P


def open_files(paths: Iterable[Path]) -> tuple[OpenedFile, ...]:
    """The files in their current state. Raises OSError if one does not exist."""
    return tuple(OpenedFile(path, FileState.of(path)) for path in paths)


def open_part(part: P) -> OpenedPart[P]:
    """A part of a model with its files in their current state. Raises OSError if one does not exist."""
    return OpenedPart(part, open_files(part.files))


def require_unchanged(files: tuple[OpenedFile, ...], name: str) -> None:
    """Raise ValueError if a file is no longer in the state in which it was opened, and OSError if one does not exist.

    `name` says in the message what the files are.
    """
    if open_files(file.path for file in files) != files:
        raise ValueError(f"the files of {name} were changed during the run. Run again")
