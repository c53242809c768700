"""The shapes of a file's tensors, from which the sizes of networks are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import TensorInfo


@dataclass(frozen=True)
class Shapes:
    """The shapes of a file's tensors; asking for one that is missing or of another rank is a CheckpointError."""

    path: Path
    tensors: Mapping[str, TensorInfo]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def get(self, key: str, rank: int) -> tuple[int, ...]:
        """The shape of the tensor `key`, which has `rank` dimensions."""
        info = self.tensors.get(key)
        if info is None or len(info.shape) != rank:
            found = "none" if info is None else f"one of shape {list(info.shape)}"
            raise CheckpointError(
                self.path,
                expected=f"a tensor {key!r} of {rank} dimensions",
                found=found,
                hint="The file is incomplete or of another layout; download it again or give another.",
            )
        return info.shape

    def count(self, template: str) -> int:
        """How many names there are with 0, 1, ... in place of the template's `{}`, up to the first that is not there."""
        number = 0
        while template.format(number) in self.tensors:
            number += 1
        return number


def multiple(width: int, of: int) -> int:
    """How many times `of` is in `width`. Raises ValueError unless it is a whole number of times."""
    if of <= 0 or width <= 0 or width % of:
        raise ValueError(f"a width of {width}, which is no multiple of {of}")
    return width // of
