"""Files of upscaling networks that are not written here: the library spandrel builds them, if it is installed."""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from pathlib import Path

from nodegraph_diffusion.checkpoint.files.header import Header

LIBRARY = "spandrel"


@dataclass(frozen=True, kw_only=True)
class OtherUpscalerFile:
    """A file that may hold an upscaling network; only spandrel knows. `library` is its code, `numbers` how many the file holds."""

    path: Path
    library: Path
    numbers: int
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that affect its output, in a fixed order: that of the library contains its version."""
        return (self.path, self.library)


def other_upscaler(header: Header) -> OtherUpscalerFile | None:
    """The file as one that spandrel may know; None if spandrel is not installed. It is not imported."""
    found = importlib.util.find_spec(LIBRARY)
    if found is None or found.origin is None:
        return None
    numbers = sum(math.prod(info.shape) for info in header.tensors.values())
    return OtherUpscalerFile(path=header.path, library=Path(found.origin), numbers=numbers)
