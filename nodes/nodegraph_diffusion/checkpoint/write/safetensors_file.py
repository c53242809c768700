"""A file's tensors written as a safetensors file, one after another: without running a pickle or holding it in memory.

What no program needs to run the model is left out, and what is known to be damaged in published files is repaired.
"""

from __future__ import annotations

import mmap
import re
from dataclasses import dataclass
from pathlib import Path

from nodegraph_diffusion.checkpoint.detect.contents import file_contents
from nodegraph_diffusion.checkpoint.files.header import Header, read_header
from nodegraph_diffusion.checkpoint.files.tensor_info import ITEM_SIZES
from nodegraph_diffusion.checkpoint.layouts.controlnet import DIFFERENCE_MARK
from nodegraph_diffusion.checkpoint.layouts.ldm import (
    EDM_MARKS,
    HARMLESS,
    REMOVABLE,
    TEXT_PREFIXES,
    UNET_PREFIX,
    VAE_PREFIX,
    VELOCITY_MARK,
    ZERO_SNR_MARK,
)
from nodegraph_diffusion.checkpoint.write.stream import Stored, write_tensors

_PARTS = ("unet", "vae", "text_encoder")
_MARKS = {VELOCITY_MARK, ZERO_SNR_MARK, DIFFERENCE_MARK, *EDM_MARKS}
_OLD_TEXT_NAME = r"(cond_stage_model\.transformer\.)(embeddings|encoder|final_layer_norm)\."
_POSITIONS = ".position_ids"


@dataclass(frozen=True)
class Conversion:
    """What `convert` did: how many tensors it wrote, the names of those it left out and their bytes, and what it repaired."""

    tensors: int
    removed: tuple[str, ...]
    removed_bytes: int
    repairs: tuple[str, ...]


def convert(path: Path, new: Path, *, keep_all: bool = False) -> Conversion:
    """Write the tensors of the file at `path`, a pickle or not, to `new` in their dtypes.

    Of a model or one of its parts, what no program needs to run it is left out, unless `keep_all`: moving averages, the training's
    schedule, and what belongs to no part. Names that `torch.compile` or old programs changed become those that were published.
    Calling this allows the pickle. Views of one storage become separate tensors. Raises CheckpointError, OSError.
    """
    header = read_header(path, allow_pickles=True)
    removed = [] if keep_all else _unused(header)
    left_out = frozenset(removed)
    names = {name: re.sub(_OLD_TEXT_NAME, r"\1text_model.\2.", name) for name in header.tensors if name not in left_out}
    if len({*names.values()}) < len(names):  # both names are there, so neither is damage
        names = {name: name for name in names}
    tensors = {new_name: header.tensors[name] for name, new_name in names.items()}
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        write_tensors(new, {name: Stored(tensor, content) for name, tensor in tensors.items()}, header.metadata)
    size = sum(header.tensors[name].size * ITEM_SIZES[header.tensors[name].dtype] for name in removed)
    renamed = sum(name != new_name for name, new_name in names.items())
    return Conversion(len(tensors), tuple(removed), size, _repairs(header, removed, renamed))


def _unused(header: Header) -> list[str]:
    """The names of tensors that no program needs, in a file of a model or of one of its parts."""
    content = file_contents(header.tensors).content
    if content != "model" and content not in _PARTS:
        return []
    inside = (UNET_PREFIX, VAE_PREFIX, *TEXT_PREFIXES)
    unused = []
    for name in header.tensors:
        outside = not name.startswith(inside) if content == "model" else re.fullmatch(HARMLESS, name) is not None
        if name not in _MARKS and (outside or re.fullmatch(REMOVABLE, name)):
            unused.append(name)
    return unused


def _repairs(header: Header, removed: list[str], renamed: int) -> tuple[str, ...]:
    """In words, what was repaired."""
    repairs = []
    if header.compiled:
        repairs.append(f"{header.compiled} names that torch.compile had changed (_orig_mod.)")
    if renamed:
        repairs.append(f"{renamed} names of the text encoder that old programs had changed (without text_model.)")
    if any(name.endswith(_POSITIONS) and header.tensors[name].dtype != "I64" for name in removed):
        repairs.append("position ids that a merge had rounded, which are not needed")
    return tuple(repairs)
