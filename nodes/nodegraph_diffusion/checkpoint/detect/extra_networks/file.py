"""A file with one network: its sizes, and where each of its tensors comes from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from nodegraph_diffusion.checkpoint.detect.sources import Source, find_sources
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece

if TYPE_CHECKING:
    from nodegraph_diffusion.checkpoint.files.header import Header
    from nodegraph_diffusion.networks.shapes import TensorShapes

C = TypeVar("C")
F = TypeVar("F", bound="NetworkFile[Any]")


@dataclass(frozen=True, kw_only=True)
class NetworkFile(Generic[C]):
    """A network on disk. `sources` says where each of its tensors comes from; `notes` say what was ignored."""

    path: Path
    weights: Path
    config: C
    sources: Mapping[str, Source]
    config_file: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that affect its output, in a fixed order."""
        return (self.weights,) if self.config_file is None else (self.weights, self.config_file)


def network_file(
    kind: type[F], header: Header, config: object, shapes: TensorShapes, *, name: str, rename: Callable[[str], str | None]
) -> F:
    """The network in a file whose tensors `rename` gives our names; those that it returns None for are not looked at.

    Raises CheckpointError, which calls the network `name`, if a tensor is missing, unknown or wrong.
    """
    names = {key: ours for key in header.tensors if (ours := rename(key)) is not None}
    looked_at = replace(header, tensors={key: header.tensors[key] for key in names})
    sources = find_sources(shapes, [looked_at], name=name, prefix="", pieces_of=lambda key: [Piece(names[key])])
    return kind(path=header.path, weights=header.path, config=config, sources=sources.tensors, notes=sources.notes)


@contextmanager
def damage_of(path: Path, what: str) -> Iterator[None]:
    """Raise a ValueError of the block, about sizes that cannot be, as a CheckpointError about the file."""
    try:
        yield
    except ValueError as error:
        hint = "The file is damaged or has another layout."
        raise CheckpointError(path, expected=f"sizes of {what}", found=str(error), hint=hint) from error
