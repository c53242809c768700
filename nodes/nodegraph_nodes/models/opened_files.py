"""The files of a model as they were opened, and the check that they still hold the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

from nodegraph.plugin_api import FileState
from nodegraph_nodes.model_files import OpenedFile, OpenedPart, P

Digest = Callable[[Path], str | None]
"""`Run.digest`: the digest of a file's content, None without an engine."""


def open_files(paths: Iterable[Path], digest: Digest) -> tuple[OpenedFile, ...]:
    """The files as they are now. Raises OSError if one does not exist."""
    return tuple(_open_file(path, digest) for path in paths)


def _open_file(path: Path, digest: Digest) -> OpenedFile:
    state = FileState.of(path)  # before the digest: if the file changes in between, the state is of no use, which does no harm
    return OpenedFile(path, digest(path) or state, state)


def open_part(part: P, digest: Digest) -> OpenedPart[P]:
    """A part of a model with its files as they are now. Raises OSError if one does not exist."""
    return OpenedPart(part, open_files(part.files, digest))


def is_unchanged(file: OpenedFile, digest: Digest) -> bool:
    """Whether a file still holds what it held when it was opened. Raises OSError if it does not exist."""
    return FileState.of(file.path) == file.state or (isinstance(file.content, str) and digest(file.path) == file.content)


def require_unchanged(files: tuple[OpenedFile, ...], name: str, digest: Digest) -> None:
    """Raise ValueError if a file no longer holds what it held when it was opened, and OSError if one does not exist.

    `name` says in the message what the files are.
    """
    if not all(is_unchanged(file, digest) for file in files):
        raise ValueError(f"the files of {name} were changed during the run. Run again")
