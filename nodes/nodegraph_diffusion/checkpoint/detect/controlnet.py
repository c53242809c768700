"""ControlNets on disk: with the names of their authors or of diffusers, and as differences from a UNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nodegraph_diffusion.checkpoint.detect.contents import (
    Contents,
    class_contents,
    file_contents,
    file_refusal,
    folder_contents,
)
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes
from nodegraph_diffusion.checkpoint.detect.sizes import diffusers_unet_config, ldm_unet_config
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import Header, HeaderCache
from nodegraph_diffusion.checkpoint.files.json_file import read_json
from nodegraph_diffusion.checkpoint.layouts.configs import read_unet
from nodegraph_diffusion.checkpoint.layouts.controlnet import DIFFERENCE_MARK, PREFIX
from nodegraph_diffusion.checkpoint.layouts.diffusers_folder import CONFIG, PICKLED, VARIANTS, WEIGHTS
from nodegraph_diffusion.networks.config import HINT_WIDTHS, UNetConfig

_WEIGHTS = WEIGHTS["unet"]


@dataclass(frozen=True, kw_only=True)
class ControlNetFile:
    """A ControlNet on disk. `config` are the sizes of the UNet whose half it copies; `difference`: it holds differences from it.

    `hint_widths` are the channels of the maps that it makes of a hint. `global_pool`: only the means of its residuals are used.
    `notes` say what was ignored.
    """

    path: Path
    weights: Path
    layout: Literal["ldm", "diffusers"]
    config: UNetConfig
    difference: bool
    hint_widths: tuple[int, ...] = HINT_WIDTHS
    global_pool: bool = False
    config_file: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that affect its output, in a fixed order."""
        return (self.weights,) if self.config_file is None else (self.weights, self.config_file)


def folder_controlnet(folder: Path, headers: HeaderCache) -> ControlNetFile:
    """The ControlNet in a folder that diffusers wrote. Raises CheckpointError for other folders."""
    names = [f"{Path(name).stem}{half}{Path(name).suffix}" for name in (_WEIGHTS, PICKLED[_WEIGHTS]) for half in ("", *VARIANTS)]
    weights = next((folder / name for name in names if (folder / name).is_file()), folder / _WEIGHTS)
    if not weights.exists():
        contents = folder_contents(folder)
        found, hint = contents.name or f"no {_WEIGHTS} in the folder", "Give a file of weights, or the folder that diffusers wrote."
        raise CheckpointError(folder, expected="a ControlNet", found=found, hint=hint, holds=contents.content)
    header = headers.read(weights)
    return file_controlnet(header, file_contents(header.tensors), folder)


def file_controlnet(header: Header, contents: Contents, folder: Path | None = None) -> ControlNetFile:
    """The ControlNet in a file, which is in a `folder` of diffusers or separate. Raises CheckpointError for other files."""
    path, tensors = folder or header.path, header.tensors
    try:
        if any(key.startswith("controlnet_cond_embedding.") for key in tensors):
            config_file = _config_beside(header.path, always=folder is not None)
            config, global_pool = _read_config(config_file) or (diffusers_unet_config(Shapes(header), whole=False), False)
            return ControlNetFile(
                path=path,
                weights=header.path,
                layout="diffusers",
                config=config,
                difference=False,
                hint_widths=_hint_widths(Shapes(header), "diffusers"),
                global_pool=global_pool,
                config_file=config_file,
            )
        prefix = PREFIX if any(key.startswith(PREFIX) for key in tensors) else ""
        if f"{prefix}input_hint_block.0.weight" in tensors:
            shapes = Shapes(header, prefix)
            config = ldm_unet_config(shapes, whole=False)
            difference, hint = DIFFERENCE_MARK in tensors, _hint_widths(shapes, "ldm")
            return ControlNetFile(
                path=path, weights=header.path, layout="ldm", config=config, difference=difference, hint_widths=hint
            )
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        expected, damaged = "sizes of a ControlNet for Stable Diffusion", "The file is damaged or has another layout."
        raise CheckpointError(header.path, expected=expected, found=str(error), hint=damaged) from error
    instead = "Give a .safetensors file, or the folder that diffusers wrote."
    raise file_refusal("controlnet", header.path, tensors, found=contents, hint=instead)


def _hint_widths(shapes: Shapes, layout: Literal["ldm", "diffusers"]) -> tuple[int, ...]:
    """The channels of each map of the hint, the largest map first."""
    name = "input_hint_block.0.weight" if layout == "ldm" else "controlnet_cond_embedding.conv_in.weight"
    widths: list[int] = []
    while name in shapes or not widths:
        widths.append(shapes.get(name, 4)[0])
        i = len(widths)
        name = f"input_hint_block.{4 * i}.weight" if layout == "ldm" else f"controlnet_cond_embedding.blocks.{2 * i - 1}.weight"
    return tuple(widths)


def _config_beside(weights: Path, always: bool) -> Path | None:
    """The config beside the weights, `always` or only if it is one of a ControlNet; None if there is none."""
    config = weights.with_name(CONFIG)
    if not config.is_file():
        return None
    return config if always or class_contents(read_json(config)).content == "controlnet" else None


def _read_config(file: Path | None) -> tuple[UNetConfig, bool] | None:
    """The sizes in a config of diffusers, and whether only the means of the residuals are used; None without a file."""
    if file is None:
        return None
    config = read_json(file)
    if (order := config.get("controlnet_conditioning_channel_order", "rgb")) != "rgb":
        raise ValueError(f"controlnet_conditioning_channel_order is {order!r}, not 'rgb'")
    global_pool = config.get("global_pool_conditions", False)
    if not isinstance(global_pool, bool):
        raise ValueError(f"global_pool_conditions is {global_pool!r}, not true or false")
    ups = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}
    blocks = [ups[name] for name in reversed(config["down_block_types"])]
    return read_unet({**config, "up_block_types": blocks, "out_channels": config["in_channels"]}), global_pool
