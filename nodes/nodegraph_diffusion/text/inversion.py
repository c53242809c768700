"""Textual inversion: vectors that stand for a new word in a prompt (Gal et al. 2022), from the files that trainers write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from nodegraph_diffusion.checkpoint.detect.embedding import detect_embedding
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.mapped import MappedFile

_OTHER_FAMILY = "It was made for another family of models; give the family's own."


def read_inversion(path: Path, widths: Sequence[int]) -> tuple[Tensor | None, ...]:
    """The vectors (n, width) in the file at `path` for text encoders of these widths, float32.

    None for an encoder that the file has none for. Raises CheckpointError for other files (see `detect_embedding`), and where no
    encoder has the width of its vectors.
    """
    shapes = {name: info.shape for name, info in detect_embedding(path).items()}
    missing = [name for name, shape in shapes.items() if shape[-1] not in widths]
    if missing:
        expected = f"vectors of {' or '.join(map(str, dict.fromkeys(widths)))} numbers, as the model's text encoders have"
        raise CheckpointError(path, expected=expected, found=f"{shapes[missing[0]][-1]}", hint=_OTHER_FAMILY)
    with MappedFile(path) as file:
        vectors = {shapes[name][-1]: file.tensor(name).float().reshape(-1, shapes[name][-1]) for name in shapes}
    return tuple(vectors.get(width) for width in widths)
