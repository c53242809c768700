"""Textual inversion: vectors that stand for a new word in a prompt (Gal et al. 2022), read from the files of trainers."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from nodegraph_diffusion.checkpoint import CheckpointError, EmbeddingFile
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile

_OTHER_FAMILY = "It was made for another family of models; give the family's own."


def read_inversion(inversion: EmbeddingFile, widths: Sequence[int]) -> tuple[Tensor | None, ...]:
    """The vectors (n, width), float32, for text encoders of these widths; None for an encoder that the file has none for.

    Raises CheckpointError if no encoder has the width of the vectors, and if the file was changed since it was described.
    """
    path, shapes = inversion.path, inversion.shapes
    missing = [name for name, shape in shapes.items() if shape[-1] not in widths]
    if missing:
        expected = f"vectors of {' or '.join(map(str, dict.fromkeys(widths)))} numbers, as the model's text encoders have"
        raise CheckpointError(path, expected=expected, found=f"{shapes[missing[0]][-1]}", hint=_OTHER_FAMILY)
    with MappedFile(path) as file:
        tensors = file.header.tensors
        if any(name not in tensors or tensors[name].shape != shape for name, shape in shapes.items()):
            hint = "It was changed in the meantime. Run again."
            raise CheckpointError(path, expected="the vectors that it held before", found="others", hint=hint)
        vectors = {shapes[name][-1]: file.tensor(name).float().reshape(-1, shapes[name][-1]) for name in shapes}
    return tuple(vectors.get(width) for width in widths)
