"""Which modules of a network an adapter's file changes, and whether the changes fit them: by names and shapes, without torch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from nodegraph_diffusion.checkpoint.detect.lora import OTHER_FAMILY, LoraFile
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.families import Part
from nodegraph_diffusion.checkpoint.layouts.adapter_kinds import NUMBERS, OF_BIAS, factor_shapes, kind_of
from nodegraph_diffusion.checkpoint.layouts.adapter_shapes import Shape, WrongShapeError, check_fit
from nodegraph_diffusion.checkpoint.layouts.lora import flat
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.networks.config import CLIPTextConfig, UNetConfig
from nodegraph_diffusion.networks.shapes import text_shapes, unet_shapes

AnyConfig = UNetConfig | CLIPTextConfig


def unmatched(file: LoraFile, part: Part, config: AnyConfig) -> list[str]:
    """The modules of `part` that the file changes and a network of this config does not have.

    Raises CheckpointError if the network has none of them, or if a change does not have the shape of its weight: then the file is
    for a model of another family.
    """
    changes = file.changes.get(part, {})
    if not changes:
        return []
    shapes = unet_shapes(config) if isinstance(config, UNetConfig) else text_shapes(config)
    modules = modules_by_name(shapes, config)
    missing = [module for module in changes if module not in modules]
    if len(missing) == len(changes):
        raise CheckpointError(
            file.path,
            expected=f"changes of modules that this model's {part} has",
            found=f"none ({missing[0]}, ...)",
            hint=OTHER_FAMILY,
        )
    for module, roles in changes.items():
        if module in modules:
            _check_bias(file, module, roles, shapes.get(f"{modules[module]}.bias"))
            if kind_of(roles) is not None:
                _check_weight(file, roles, shapes[f"{modules[module]}.weight"])
    return missing


def modules_by_name(tensors: Iterable[str], config: AnyConfig) -> dict[str, str]:
    """Those of our modules that have weights, by every name that an adapter's file may have for them, joined by underscores.

    `tensors` are the names of the network's tensors.
    """
    names = [key.removesuffix(".weight") for key in tensors if key.endswith(".weight")]
    modules = {flat(module): module for module in names}
    if isinstance(config, UNetConfig):
        table = unet_modules(config)
        modules |= {flat(rename(module, table)): module for module in names}
    return modules


def misfit(file: LoraFile, roles: Mapping[str, str], error: ValueError) -> CheckpointError:
    """The error for a change that does not fit its weight; `error` says why."""
    first = next(key for role, key in roles.items() if role not in NUMBERS)
    if isinstance(error, WrongShapeError):
        return CheckpointError(file.path, expected=f"{error.expected} at {first!r}", found=error.found, hint=OTHER_FAMILY)
    hint = "The file is damaged, or was made for another family of models."
    return CheckpointError(file.path, expected=f"a change that fits at {first!r}", found=f"another: {error}", hint=hint)


def _check_weight(file: LoraFile, roles: Mapping[str, str], weight: Shape) -> None:
    """Raise CheckpointError unless the change of a module fits its weight."""
    try:
        check_fit(weight, factor_shapes(roles, file.tensors))
    except ValueError as error:
        raise misfit(file, roles, error) from error


def _check_bias(file: LoraFile, module: str, roles: Mapping[str, str], bias: Shape | None) -> None:
    for role in OF_BIAS:
        if role in roles and (bias is None or file.tensors[roles[role]].shape != bias):
            has = "none" if bias is None else f"one of {bias[0]}"
            raise CheckpointError(
                file.path,
                expected=f"a change of the bias that {module!r} has: {has}",
                found=f"one of {'x'.join(map(str, file.tensors[roles[role]].shape))}",
                hint=OTHER_FAMILY,
            )
