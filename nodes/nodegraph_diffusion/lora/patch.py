"""Applying adapter files to networks: a new network each time, which shares every tensor that no file touches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from nodegraph_diffusion.checkpoint.contents import not_a
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.header import TensorInfo, read_header
from nodegraph_diffusion.checkpoint.mapped import MappedFile
from nodegraph_diffusion.checkpoint.model import Part
from nodegraph_diffusion.checkpoint.names import rename, unet_modules
from nodegraph_diffusion.clip import CLIPTextModel
from nodegraph_diffusion.lora.formulas import change_of_shape, changed
from nodegraph_diffusion.lora.keys import flat, parse
from nodegraph_diffusion.unet import UNet

Network = TypeVar("Network", UNet, CLIPTextModel)

_FLAGS = ("alpha", "bias", "magnitude", "dora_scale")  # what a change has besides its factors


@dataclass(frozen=True)
class LoraFile:
    """What an adapter file changes: for each part of a model, by module, the names of its tensors by their roles."""

    path: Path
    changes: Mapping[Part, Mapping[str, Mapping[str, str]]]
    tensors: Mapping[str, TensorInfo]


def read_lora(path: Path) -> LoraFile:
    """What the adapter file at `path` holds, by its header. Raises CheckpointError for any other file."""
    tensors = read_header(path)
    changes: dict[Part, dict[str, dict[str, str]]] = {}
    unknown = []
    for key in tensors:
        name = parse(key)
        if name is None:
            unknown.append(key)
        else:
            changes.setdefault(name.part, {}).setdefault(name.module, {})[name.role] = key
    if not changes or len(unknown) > len(tensors) // 2:
        raise not_a("lora", path, tensors, "Give a file of one of these.")
    return LoraFile(path, changes, tensors)


def unmatched(file: LoraFile, part: Part, network: UNet | CLIPTextModel) -> list[str]:
    """The modules of `part` that the file changes and the network does not have.

    Raises CheckpointError where these are all of them, or where a change does not have its weight's shape: the file is for a
    model of another family then.
    """
    modules = _modules(network)
    weights = dict(network.state_dict())
    wanted = file.changes.get(part, {})
    missing = [module for module in wanted if module not in modules]
    if wanted and len(missing) == len(wanted):
        raise CheckpointError(
            file.path,
            expected=f"changes of modules that this model's {part} has",
            found=f"none ({missing[0]}, ...)",
            hint="It was made for another family of models; give the family's own.",
        )
    for module, roles in wanted.items():
        if module in modules and any(role not in _FLAGS for role in roles):
            _check_shape(file, module, roles, weights[f"{modules[module]}.weight"])
    return missing


def patched(network: Network, part: Part, files: Sequence[tuple[LoraFile, float]]) -> Network:
    """A network like `network` with the changes of `files`, each at its strength, in their order.

    It shares every tensor that they leave alone; `network` stays as it is, to the last bit. What a file changes that the
    network does not have is left out. Weights are changed in float32 and brought back to the network's dtype; those of a text
    encoder are rounded to float16 first, since ComfyUI keeps text encoders so and files are tuned by what it shows.
    """
    modules = _modules(network)
    state = dict(network.state_dict())
    changes: dict[str, Tensor] = {}
    for file, strength in files:
        with MappedFile(file.path) as tensors:
            for module, roles in file.changes.get(part, {}).items():
                if module in modules and strength != 0:
                    _change(changes, state, modules[module], {role: tensors.tensor(key) for role, key in roles.items()}, strength)
    for key, value in changes.items():
        layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
        rounded = value.half() if isinstance(network, CLIPTextModel) else value
        state[key] = rounded.to(state[key].dtype, memory_format=layout)
    with torch.device("meta"):
        copy = type(network)(network.config)
    copy.load_state_dict(state, assign=True)
    return copy.requires_grad_(False).eval()


def _change(
    changes: dict[str, Tensor], state: Mapping[str, Tensor], module: str, found: Mapping[str, Tensor], strength: float
) -> None:
    """Put the changed weight and bias of a module among `changes`, in float32."""
    key = f"{module}.weight"
    device = state[key].device
    factors = {role: tensor.to(device, torch.float32) for role, tensor in found.items() if role not in ("alpha", "bias")}
    if any(role not in _FLAGS for role in factors):
        alpha = float(found["alpha"]) if "alpha" in found else None
        weight = changes.get(key, state[key].float())
        changes[key] = changed(weight, factors, alpha, strength)
    if "bias" in found:
        bias = f"{module}.bias"
        changes[bias] = changes.get(bias, state[bias].float()) + strength * found["bias"].to(device, torch.float32)


def _check_shape(file: LoraFile, module: str, roles: Mapping[str, str], weight: Tensor) -> None:
    shapes = {role: file.tensors[key].shape for role, key in roles.items() if role not in _FLAGS}
    expected = (weight.shape[0], weight.numel() // weight.shape[0])
    try:
        found = change_of_shape(shapes)
    except ValueError as error:
        hint = "The file is damaged, or of a kind that is not known here."
        raise CheckpointError(file.path, expected=f"a change of {module!r}", found=str(error), hint=hint) from error
    if found != expected and found[0] * found[1] != weight.numel():
        raise CheckpointError(
            file.path,
            expected=f"a change of {expected[0]}x{expected[1]} for {module!r}",
            found=f"one of {found[0]}x{found[1]}",
            hint="It was made for another family of models; give the family's own.",
        )


def _modules(network: UNet | CLIPTextModel) -> dict[str, str]:
    """Our modules that have weights, by every name that an adapter file may give them, joined by underscores."""
    ours = [key.removesuffix(".weight") for key in network.state_dict() if key.endswith(".weight")]
    modules = {flat(module): module for module in ours}
    if isinstance(network, UNet):
        table = unet_modules(network.config)
        modules |= {flat(rename(module, table)): module for module in ours}
    return modules
