"""Textual inversion: vectors that stand for a new word in a prompt (Gal et al. 2022), read from the files of trainers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import Tensor

from nodegraph_diffusion.checkpoint import CheckpointError, EmbeddingFile, LoraFile
from nodegraph_diffusion.checkpoint.detect.embedding import require_widths, require_widths_of_words
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile


def read_inversion(inversion: EmbeddingFile, widths: Sequence[int]) -> tuple[Tensor | None, ...]:
    """The vectors (n, width), float32, for text encoders of these widths; None for an encoder that the file has none for.

    Raises CheckpointError if no encoder has the width of the vectors, and if the file was changed since it was described.
    """
    require_widths(inversion.path, inversion.shapes, widths)
    return _read(inversion.path, inversion.path, inversion.shapes, widths=widths)


def read_bundled(file: LoraFile, widths: Sequence[int]) -> dict[str, tuple[Tensor | None, ...]]:
    """The embeddings that an adapter's file has besides, by word; otherwise as `read_inversion`."""
    require_widths_of_words(file, widths)
    return {word: _read(file.path, file.weights, file.shapes_of_word(word), widths=widths) for word in file.embeddings}


def _read(path: Path, weights: Path, shapes: Mapping[str, tuple[int, ...]], *, widths: Sequence[int]) -> tuple[Tensor | None, ...]:
    with MappedFile(weights) as file:
        tensors = file.header.tensors
        if any(name not in tensors or tensors[name].shape != shape for name, shape in shapes.items()):
            hint = "It was changed in the meantime. Run again."
            raise CheckpointError(path, expected="the vectors that it held before", found="others", hint=hint)
        vectors = {shape[-1]: file.tensor(name).float().reshape(-1, shape[-1]) for name, shape in shapes.items()}
    return tuple(vectors.get(width) for width in widths)
