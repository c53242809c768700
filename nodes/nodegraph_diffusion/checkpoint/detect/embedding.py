"""Textual inversion files, told by their headers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from nodegraph_diffusion.checkpoint.detect.contents import not_a
from nodegraph_diffusion.checkpoint.files.header import TensorInfo, read_header

PAIR = ("clip_l", "clip_g")  # one set of vectors for each of Stable Diffusion XL's text encoders
_FLOATS = {"F64", "F32", "F16", "BF16"}


def detect_embedding(path: Path) -> Mapping[str, TensorInfo]:
    """The tensors of vectors, (n, width) or (width,), in the textual inversion at `path`, by name.

    A file holds `emb_params`, or `clip_l` and `clip_g`, or one tensor under the word that it stands for, or under `*`. Raises
    CheckpointError for other files.
    """
    tensors = read_header(path)
    names = [name for name in (*PAIR, "emb_params") if name in tensors] or list(tensors)
    odd = any(len(tensors[name].shape) not in (1, 2) or tensors[name].dtype not in _FLOATS for name in names)
    if odd or not names or (len(names) > 1 and set(names) != set(PAIR)):
        raise not_a("embedding", path, tensors, "Give a textual inversion file.")
    return {name: tensors[name] for name in names}
