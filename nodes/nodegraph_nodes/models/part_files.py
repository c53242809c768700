"""The files of a part of a model, in the state in which they were opened."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from nodegraph_diffusion.checkpoint import CheckpointError, TextPart, UNetPart, VAEPart
from nodegraph_nodes.models.errors import refusal

if TYPE_CHECKING:
    import torch

    from nodegraph import Run

T = TypeVar("T")
P = TypeVar("P", UNetPart, VAEPart, TextPart)


class FileState(NamedTuple):
    """A file, and what tells one state of it from another without reading it."""

    file: Path
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int

    @classmethod
    def of(cls, file: Path) -> FileState:
        """The file as it is now. Raises OSError where it is gone."""
        stat = file.stat()
        return cls(file, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)


@dataclass(frozen=True, eq=False)
class PartFiles(Generic[P]):
    """A part of a model, and the state in which its files were when it was opened: what is loaded later is of this state."""

    part: P
    state: tuple[FileState, ...]

    @classmethod
    def of(cls, part: P) -> PartFiles[P]:
        """The files as they are now. Raises OSError where one is gone."""
        return cls(part, tuple(map(FileState.of, part.files)))

    def resident(self, run: Run, what: Hashable, dtype: torch.dtype | None, load: Callable[[], T]) -> T:
        """What `load()` gives, kept by the run. Raises ValueError where the files are damaged, or others than before."""

        def loaded() -> T:
            value = load()
            self._require_unchanged()  # what was changed meanwhile is not kept
            return value

        self._require_unchanged()
        try:
            return run.resident((what, self.part.weights, self.part.config, self.state, run.device, str(dtype)), loaded)
        except CheckpointError as error:
            raise refusal(error) from error

    def _require_unchanged(self) -> None:
        if tuple(map(FileState.of, self.part.files)) != self.state:
            raise ValueError(f"the files of the model {self.part.path} were changed during the run. Run again")
