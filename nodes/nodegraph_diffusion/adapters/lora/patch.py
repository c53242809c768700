"""Applying adapter files to networks: to a new network that shares all tensors that no file changes, or in place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from nodegraph_diffusion.adapters.lora.formulas import Change, changed, ia3_scales
from nodegraph_diffusion.adapters.lora.match import misfit, modules_by_name
from nodegraph_diffusion.checkpoint import CheckpointError, LoraFile, Part
from nodegraph_diffusion.checkpoint.files.mapped_file import MappedFile
from nodegraph_diffusion.checkpoint.layouts.adapter_kinds import NUMBERS, OF_BIAS, kind_of
from nodegraph_diffusion.checkpoint.layouts.peft_config import ModuleOptions
from nodegraph_diffusion.checkpoint.load.blank_network import blank
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet

Network = TypeVar("Network", UNet, CLIPTextModel)


class _FileChange(NamedTuple):
    """The change of one module by an open file."""

    mapped: MappedFile
    file: LoraFile
    roles: Mapping[str, str]
    options: ModuleOptions
    strength: float


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
    modules = modules_by_name(network.state_dict(), network.config)
    with ExitStack() as stack:
        changes: dict[str, list[_FileChange]] = {}
        for file, strength in files:
            mapped = stack.enter_context(MappedFile(file.weights))
            if mapped.header.tensors != file.tensors:
                hint = "It was changed in the meantime. Run again."
                raise CheckpointError(file.path, expected="the tensors that it held before", found="others", hint=hint)
            for name, roles in file.changes.get(part, {}).items():
                if name in modules and strength != 0:
                    change = _FileChange(mapped, file, roles, options=file.options[part, name], strength=strength)
                    changes.setdefault(modules[name], []).append(change)
        for module, of_files in changes.items():
            layer = network.get_submodule(module)
            values: dict[str, Tensor] = {}
            for change in of_files:
                _change(values, layer, change)
            for parameter, value in values.items():
                before = getattr(layer, parameter)
                layout = torch.channels_last if value.dim() == 4 else torch.contiguous_format
                rounded = value.half() if isinstance(network, CLIPTextModel) else value
                tensor = rounded.to(before.dtype, memory_format=layout)
                setattr(layer, parameter, torch.nn.Parameter(tensor, requires_grad=False))
    return network


def _change(values: dict[str, Tensor], layer: torch.nn.Module, of_file: _FileChange) -> None:
    """Add the changed weight and bias of a layer to `values`, in float32."""
    roles, strength = of_file.roles, of_file.strength
    device = layer.get_parameter("weight").device
    tensors = {role: of_file.mapped.tensor(key).to(device, torch.float32) for role, key in roles.items() if role not in NUMBERS}
    numbers = {role: of_file.file.numbers[roles[role]] for role in NUMBERS if role in roles}
    change = Change(
        factors={role: tensor for role, tensor in tensors.items() if role not in OF_BIAS},
        alpha=numbers.get("alpha"),
        scalar=numbers.get("scalar", 1.0),
        on_input=numbers.get("on_input", 0.0) != 0,
        options=of_file.options,
    )

    def value(parameter: str) -> Tensor:
        return values[parameter] if parameter in values else layer.get_parameter(parameter).float()

    if "ia3_l" in tensors and getattr(layer, "bias", None) is not None:
        scales = ia3_scales(value("weight"), change, strength)
        if scales is not None and scales.shape[0] == scales.numel():  # PEFT scales the output, with the bias in it
            values["bias"] = value("bias") * scales.flatten()
    if kind_of(roles) is not None:
        try:
            values["weight"] = changed(value("weight"), change, strength)
        except ValueError as error:
            raise misfit(of_file.file, roles, error) from error
    rank = len(tensors["down"]) if "down" in tensors else None
    if "set_bias" in tensors:
        values["bias"] = torch.lerp(value("bias"), tensors["set_bias"], strength)
    for role, times in (("bias", 1.0), ("up_bias", change.scaling(rank))):
        if role in tensors:
            values["bias"] = value("bias") + strength * times * tensors[role]
