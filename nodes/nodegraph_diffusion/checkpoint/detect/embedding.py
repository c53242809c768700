"""Files of textual inversions: vectors that stand for a word in a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from nodegraph_diffusion.checkpoint.detect.contents import Contents, file_refusal
from nodegraph_diffusion.checkpoint.detect.lora import OTHER_FAMILY, LoraFile
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import Header
from nodegraph_diffusion.checkpoint.files.tensor_info import FLOATS

PAIR = ("clip_l", "clip_g")  # the vectors for each of Stable Diffusion XL's text encoders


@dataclass(frozen=True)
class EmbeddingFile:
    """A textual inversion: the shapes of its tensors of vectors, (n, width) or (width,), by name."""

    path: Path
    shapes: Mapping[str, tuple[int, ...]]


def file_embedding(header: Header, contents: Contents) -> EmbeddingFile:
    """The textual inversion in a file. Raises CheckpointError for other files.

    Its tensors are `emb_params`, or `clip_l` and `clip_g`, or one under the word that it stands for, or under `*`.
    """
    tensors = header.tensors
    names = [name for name in (*PAIR, "emb_params") if name in tensors] or list(tensors)
    several = len(names) > 1 and set(names) != set(PAIR)
    if not names or several or any(len(tensors[name].shape) not in (1, 2) for name in names):
        raise file_refusal("embedding", header.path, tensors, found=contents, hint="Give a textual inversion file.")
    if integers := [name for name in names if tensors[name].dtype not in FLOATS]:
        expected = f"vectors for a prompt's word: {integers[0]!r} in {', '.join(FLOATS)}"
        raise CheckpointError(
            header.path, expected=expected, found=tensors[integers[0]].dtype, hint="Give a textual inversion file of floats."
        )
    return EmbeddingFile(header.path, {name: tensors[name].shape for name in names})


def require_widths(path: Path, shapes: Mapping[str, tuple[int, ...]], widths: Sequence[int]) -> None:
    """Raise CheckpointError unless each tensor of vectors has the width of one of a model's text encoders."""
    other = [name for name, shape in shapes.items() if shape[-1] not in widths]
    if other:
        expected = f"vectors of {' or '.join(map(str, dict.fromkeys(widths)))} numbers, as the model's text encoders have"
        expected = f"{expected}, in {other[0]!r}"
        raise CheckpointError(path, expected=expected, found=f"{shapes[other[0]][-1]}", hint=OTHER_FAMILY)


def require_widths_of_words(file: LoraFile, widths: Sequence[int]) -> None:
    """Raise CheckpointError as `require_widths` does for the embeddings in an adapter's file."""
    for word in file.embeddings:
        require_widths(file.path, file.shapes_of_word(word), widths)
