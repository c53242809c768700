"""Textual inversion: vectors that stand for a new word in a prompt (Gal et al. 2022), read from the files of trainers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from nodegraph_diffusion.checkpoint import CheckpointError, describe
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile

_OTHER_FAMILY = "It was made for another family of models; give the family's own."


def read_inversion(path: Path, widths: Sequence[int]) -> tuple[Tensor | None, ...]:
    """The vectors (n, width) in the file at `path` for text encoders of these widths, float32; None if it has none for an encoder.

    Raises CheckpointError for files that are not textual inversions, and if no encoder has the width of its vectors.
    """
    shapes = describe(path).embedding().shapes
    missing = [name for name, shape in shapes.items() if shape[-1] not in widths]
    if missing:
        expected = f"vectors of {' or '.join(map(str, dict.fromkeys(widths)))} numbers, as the model's text encoders have"
        raise CheckpointError(path, expected=expected, found=f"{shapes[missing[0]][-1]}", hint=_OTHER_FAMILY)
    with MappedFile(path) as file:
        vectors = {shapes[name][-1]: file.tensor(name).float().reshape(-1, shapes[name][-1]) for name in shapes}
    return tuple(vectors.get(width) for width in widths)
