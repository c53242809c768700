"""ControlNets on disk: with the names of their authors or of diffusers, and as differences from a UNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nodegraph_diffusion.checkpoint.detect.contents import Contents, file_contents, file_refusal, folder_contents
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

    `hint_widths` are the channels of the maps that it makes of a hint. `notes` say what was ignored.
    """

    path: Path
    weights: Path
    layout: Literal["ldm", "diffusers"]
    config: UNetConfig
    difference: bool
    hint_widths: tuple[int, ...] = HINT_WIDTHS
    notes: tuple[str, ...] = ()

    @property
    def files(self) -> tuple[Path, ...]:
        """All files that affect its output, in a fixed order."""
        config = self.weights.with_name(CONFIG)
        return (self.weights, config) if self.path.is_dir() else (self.weights,)


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
            config = _diffusers_config(folder, header)
            hint = _hint_widths(Shapes(header), "diffusers")
            return ControlNetFile(
                path=path, weights=header.path, layout="diffusers", config=config, difference=False, hint_widths=hint
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


def _diffusers_config(folder: Path | None, header: Header) -> UNetConfig:
    """The sizes in the folder's config; without one, those that the shapes show."""
    if folder is None or not (folder / CONFIG).is_file():
        return diffusers_unet_config(Shapes(header), whole=False)
    config = read_json(folder / CONFIG)
    if (order := config.get("controlnet_conditioning_channel_order", "rgb")) != "rgb":
        raise ValueError(f"controlnet_conditioning_channel_order is {order!r}, not 'rgb'")
    ups = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}
    blocks = [ups[name] for name in reversed(config["down_block_types"])]
    return read_unet({**config, "up_block_types": blocks, "out_channels": config["in_channels"]})
