"""The shapes of a file's tensors, from which the sizes of networks follow."""

from __future__ import annotations

from dataclasses import dataclass

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import Header


@dataclass(frozen=True, eq=False)
class Shapes:
    """The shapes of a file's tensors below a prefix. Asking for one that is missing or has another rank is a CheckpointError."""

    header: Header
    prefix: str = ""

    def __contains__(self, key: str) -> bool:
        return self.prefix + key in self.header.tensors

    def get(self, key: str, rank: int) -> tuple[int, ...]:
        """The shape of the tensor `key`, which has `rank` dimensions."""
        info = self.header.tensors.get(self.prefix + key)
        if info is None or len(info.shape) != rank:
            raise CheckpointError(
                self.header.path,
                expected=f"a tensor {self.prefix + key!r} of {rank} dimensions",
                found="none" if info is None else f"one of shape {list(info.shape)}",
                hint="The file is incomplete or has another layout; download it again or give another.",
            )
        return info.shape

    def rank(self, key: str) -> int:
        """How many dimensions the tensor `key` has; 0 if it is missing."""
        info = self.header.tensors.get(self.prefix + key)
        return 0 if info is None else len(info.shape)

    def count(self, template: str) -> int:
        """How many tensors there are whose names have 0, 1, ... instead of the template's `{}`, up to the first that is missing."""
        number = 0
        while template.format(number) in self:
            number += 1
        return number


def multiple(width: int, of: int) -> int:
    """How many times `of` is contained in `width`. Raises ValueError unless it is a whole number."""
    if of <= 0 or width <= 0 or width % of:
        raise ValueError(f"a width of {width}, which is not a multiple of {of}")
    return width // of
