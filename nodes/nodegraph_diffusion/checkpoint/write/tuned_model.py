"""Writing a model whose parts were trained: in the layout, names and dtypes of the model that it was loaded from."""

from __future__ import annotations

import mmap
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from torch import Tensor, nn

from nodegraph_diffusion.checkpoint.detect.model import Checkpoint
from nodegraph_diffusion.checkpoint.detect.sources import AnyPart, part_sources
from nodegraph_diffusion.checkpoint.families import Part
from nodegraph_diffusion.checkpoint.files.header import Header, read_header
from nodegraph_diffusion.checkpoint.files.tensor_info import EIGHT_BIT_FLOATS
from nodegraph_diffusion.checkpoint.layouts.diffusers_folder import INDEX, WEIGHTS
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece
from nodegraph_diffusion.checkpoint.write.stream import Made, Stored, write_tensors
from nodegraph_diffusion.checkpoint.write.weights import dtype_name, made, replaced_at_once

_MOVING_AVERAGE = "model_ema."  # of the weights before they were trained


def save_tuned(path: Path, model: Checkpoint, networks: Mapping[Part, nn.Module], *, dtype: torch.dtype | None = None) -> None:
    """Write `model` with the weights of these networks, which were loaded from it and trained, instead of its own.

    A single file becomes a safetensors file, a diffusers folder becomes a folder. The names of tensors, everything else in the
    file, and the other parts stay as they are. Trained weights are rounded to `dtype`, by default to that of the tensor that they
    replace (float16 for eight bits). Raises ValueError if a network is not one of the model's parts.
    """
    every: tuple[AnyPart, ...] = (model.unet, model.vae, *model.text.parts)
    parts = {part.weights.part: part for part in every}
    for name, network in networks.items():
        if name not in parts:
            raise ValueError(f"save_tuned: expected parts of {model.path} ({', '.join(parts)}), found {name!r}")
        _require_same_sizes(name, parts[name], network)
    trained = {name: (parts[name], network) for name, network in networks.items()}
    if model.layout == "ldm":
        _write(path, [read_header(model.unet.weights.paths[0])], trained, dtype)
    else:
        _write_folder(path, model, trained, dtype)


def _require_same_sizes(name: Part, part: AnyPart, network: nn.Module) -> None:
    config = getattr(network, "config", None)
    if config != part.config:
        raise ValueError(f"save_tuned: expected {name!r} with the sizes of the model, {part.config}, found {config}")


def _write_folder(
    path: Path, model: Checkpoint, trained: Mapping[Part, tuple[AnyPart, nn.Module]], dtype: torch.dtype | None
) -> None:
    """The folders of trained parts with new weights and everything else in them; the others as they are; the index last."""
    path.mkdir(parents=True, exist_ok=True)
    for folder in sorted(entry for entry in model.path.iterdir() if entry.is_dir() and not entry.name.startswith(".")):
        name = next((part for part in trained if part == folder.name), None)
        if name is None:
            shutil.copytree(folder, path / folder.name, dirs_exist_ok=True)
            continue
        part, network = trained[name]
        for file in sorted(entry for entry in folder.iterdir() if entry.suffix in (".json", ".txt")):
            if ".index." not in file.name:
                (path / name).mkdir(exist_ok=True)
                shutil.copyfile(file, path / name / file.name)
        headers = [read_header(file) for file in part.weights.paths]
        _write(path / name / WEIGHTS[name], headers, {name: (part, network)}, dtype)
    shutil.copyfile(model.path / INDEX, path / INDEX)


def _write(
    path: Path, headers: Sequence[Header], trained: Mapping[Part, tuple[AnyPart, nn.Module]], dtype: torch.dtype | None
) -> None:
    """One file with the tensors of all `headers`, those of trained parts with new values."""
    pieces: dict[str, list[Piece]] = {}
    states: dict[str, Mapping[str, Tensor]] = {}
    dropped: set[str | None] = set()
    for part, network in trained.values():
        state = network.state_dict()
        for source in part_sources(part, headers).tensors.values():
            pieces.setdefault(source.name, []).append(source.piece)
            states[source.name] = state
            dropped.add(source.scale)
    tensors: dict[str, Stored | Made] = {}
    metadata: dict[str, str] = {}
    with ExitStack() as stack:
        for header in headers:
            metadata |= {key: value for key, value in header.metadata.items() if "hash" not in key}  # those of the old weights
            file = stack.enter_context(header.path.open("rb"))
            content = stack.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            for name, info in header.tensors.items():
                if name in pieces:
                    rounded = ("F16" if info.dtype in EIGHT_BIT_FLOATS else info.dtype) if dtype is None else dtype_name(dtype)
                    tensors[name] = made(states[name], pieces[name], rounded, info.shape)
                elif name not in dropped and not name.startswith(_MOVING_AVERAGE):
                    tensors[name] = Stored(info, content)
        with replaced_at_once(path) as partial:
            write_tensors(partial, tensors, metadata)
