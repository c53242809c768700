"""Textual inversion: vectors that stand for a new word in a prompt (Gal et al. 2022), from the files that trainers write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from nodegraph_diffusion.checkpoint.contents import not_a
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.header import read_header
from nodegraph_diffusion.checkpoint.mapped import DTYPES, MappedFile

_PAIR = ("clip_l", "clip_g")  # one set of vectors for each of Stable Diffusion XL's text encoders
_OTHER_FAMILY = "It was made for another family of models; give the family's own."


def read_inversion(path: Path, widths: Sequence[int]) -> tuple[Tensor | None, ...]:
    """The vectors (n, width) in the file at `path` for text encoders of these widths, float32.

    None for an encoder that the file has none for. A file holds `emb_params`, or `clip_l` and `clip_g`, or one tensor under the
    word that it stands for, or under `*`. Raises CheckpointError for other files, and where no encoder has the width of its
    vectors.
    """
    tensors = read_header(path)
    names = [name for name in (*_PAIR, "emb_params") if name in tensors] or list(tensors)
    shapes = {name: tensors[name].shape for name in names}
    odd = any(len(shape) not in (1, 2) or tensors[name].dtype not in DTYPES for name, shape in shapes.items())
    if odd or not names or (len(names) > 1 and set(names) != set(_PAIR)):
        raise not_a("embedding", path, tensors, "Give a textual inversion file.")
    missing = [name for name in names if shapes[name][-1] not in widths]
    if missing:
        expected = f"vectors of {' or '.join(map(str, dict.fromkeys(widths)))} numbers, as the model's text encoders have"
        raise CheckpointError(path, expected=expected, found=f"{shapes[missing[0]][-1]}", hint=_OTHER_FAMILY)
    with MappedFile(path) as file:
        vectors = {shapes[name][-1]: file.tensor(name).float().reshape(-1, shapes[name][-1]) for name in names}
    return tuple(vectors.get(width) for width in widths)
