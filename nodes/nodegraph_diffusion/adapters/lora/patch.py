"""Applying LoRA files to networks: to a new network that shares all tensors that no file changes, or in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import TypeVar

import torch
from torch import Tensor

from nodegraph_diffusion.adapters.lora.formulas import change_of_shape, changed, scaling
from nodegraph_diffusion.checkpoint import CheckpointError, LoraFile, Part
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile
from nodegraph_diffusion.checkpoint.layouts.lora import flat
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.checkpoint.load.blank_network import blank
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet

Network = TypeVar("Network", UNet, CLIPTextModel)

_OTHER_FAMILY = "It was made for another family of models; give the family's own."
_FLAGS = ("alpha", "bias", "up_bias", "magnitude", "dora_scale")  # parts of a change that are not factors
_NOT_FACTORS = ("alpha", "bias", "up_bias")  # of these, the ones that do not affect the change of the weight


def unmatched(file: LoraFile, part: Part, network: UNet | CLIPTextModel) -> list[str]:
    """The modules of `part` that the file changes and the network does not have.

    Raises CheckpointError if the network has none of them, or if a change does not have the shape of its weight: then the file is
    for a model of another family.
    """
    modules = _modules(network)
    weights = dict(network.state_dict())
    changes = file.changes.get(part, {})
    missing = [module for module in changes if module not in modules]
    if changes and len(missing) == len(changes):
        raise CheckpointError(
            file.path,
            expected=f"changes of modules that this model's {part} has",
            found=f"none ({missing[0]}, ...)",
            hint=_OTHER_FAMILY,
        )
    for module, roles in changes.items():
        if module in modules:
            _check_bias(file, module, roles, weights.get(f"{modules[module]}.bias"))
            if any(role not in _FLAGS for role in roles):
                _check_shape(file, module, roles, weights[f"{modules[module]}.weight"])
    return missing


def patched(network: Network, part: Part, files: Sequence[tuple[LoraFile, float]]) -> Network:
    """A network like `network` with the changes of `files`, each at its strength, in their order.

    It shares all tensors that they do not change; `network` stays as it is, to the last bit. Otherwise as `patch_in_place`.
    """
    copy = blank(type(network), network.config)
    copy.load_state_dict(network.state_dict(), assign=True)
    return patch_in_place(copy.requires_grad_(False).eval(), part, files)


def patch_in_place(network: Network, part: Part, files: Sequence[tuple[LoraFile, float]]) -> Network:
    """Replace the tensors of `network` that `files` change, one after the other. Returns `network`.

    Changes of modules that the network does not have are left out. Weights are changed in float32 and converted back to the
    network's dtype; those of a text encoder are rounded to float16 first, because ComfyUI keeps text encoders in float16 and files
    are tuned by its pictures. Raises CheckpointError if a file was changed since it was described.
    """
    modules = _modules(network)
    with ExitStack() as stack:
        changes: dict[str, list[tuple[MappedFile, LoraFile, str, float]]] = {}
        for file, strength in files:
            mapped = stack.enter_context(MappedFile(file.weights))
            if mapped.header.tensors != file.tensors:
                hint = "It was changed in the meantime. Run again."
                raise CheckpointError(file.path, expected="the tensors that it held before", found="others", hint=hint)
            for name in file.changes.get(part, {}):
                if name in modules and strength != 0:
                    changes.setdefault(modules[name], []).append((mapped, file, name, strength))
        for module, of_files in changes.items():
            layer = network.get_submodule(module)
            values: dict[str, Tensor] = {}
            for mapped, file, name, strength in of_files:
                tensors = {role: mapped.tensor(key) for role, key in file.changes[part][name].items()}
                _change(values, layer, tensors=tensors, strength=strength, scale=file.scales.get((part, name)))
            for parameter, value in values.items():
                before = getattr(layer, parameter)
                layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
                rounded = value.half() if isinstance(network, CLIPTextModel) else value
                tensor = rounded.to(before.dtype, memory_format=layout)
                setattr(layer, parameter, torch.nn.Parameter(tensor, requires_grad=False))
    return network


def _change(
    values: dict[str, Tensor],
    layer: torch.nn.Module,
    *,
    tensors: Mapping[str, Tensor],
    strength: float,
    scale: float | None,
) -> None:
    """Add the changed weight and bias of a layer to `values`, in float32."""
    device = layer.get_parameter("weight").device
    alpha = float(tensors["alpha"]) if "alpha" in tensors else None
    factors = {role: tensor.to(device, torch.float32) for role, tensor in tensors.items() if role not in _NOT_FACTORS}
    if any(role not in _FLAGS for role in factors):
        weight = values["weight"] if "weight" in values else layer.get_parameter("weight").float()
        values["weight"] = changed(weight, factors, alpha=alpha, strength=strength, scale=scale)
    rank = len(tensors["down"]) if "down" in tensors else None
    for role, times in (("bias", 1.0), ("up_bias", scaling(alpha, rank, scale))):
        if role in tensors:
            bias = values["bias"] if "bias" in values else layer.get_parameter("bias").float()
            values["bias"] = bias + strength * times * tensors[role].to(device, torch.float32)


def _check_bias(file: LoraFile, module: str, roles: Mapping[str, str], bias: Tensor | None) -> None:
    for role in ("bias", "up_bias"):
        if role in roles and (bias is None or file.tensors[roles[role]].shape != bias.shape):
            has = "none" if bias is None else f"one of {len(bias)}"
            raise CheckpointError(
                file.path,
                expected=f"a change of the bias that {module!r} has: {has}",
                found=f"one of {'x'.join(map(str, file.tensors[roles[role]].shape))}",
                hint=_OTHER_FAMILY,
            )


def _check_shape(file: LoraFile, module: str, roles: Mapping[str, str], weight: Tensor) -> None:
    shapes = {role: file.tensors[key].shape for role, key in roles.items() if role not in _FLAGS}
    expected = (weight.shape[0], weight.numel() // weight.shape[0])
    try:
        found = change_of_shape(shapes)
    except ValueError as error:
        hint = "The file is damaged, or of an unknown kind."
        raise CheckpointError(file.path, expected=f"a change of {module!r}", found=str(error), hint=hint) from error
    if found != expected and found[0] * found[1] != weight.numel():
        raise CheckpointError(
            file.path,
            expected=f"a change of {expected[0]}x{expected[1]} for {module!r}",
            found=f"one of {found[0]}x{found[1]}",
            hint=_OTHER_FAMILY,
        )


def _modules(network: UNet | CLIPTextModel) -> dict[str, str]:
    """Our modules that have weights, by every name that a LoRA file may have for them, joined by underscores."""
    names = [key.removesuffix(".weight") for key in network.state_dict() if key.endswith(".weight")]
    modules = {flat(module): module for module in names}
    if isinstance(network, UNet):
        table = unet_modules(network.config)
        modules |= {flat(rename(module, table)): module for module in names}
    return modules
