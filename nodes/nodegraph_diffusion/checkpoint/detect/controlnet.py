"""ControlNets on disk: with the names of their authors or of diffusers, and as differences from a UNet."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nodegraph_diffusion.checkpoint.detect.contents import Contents, file_contents, file_refusal, folder_contents
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes
from nodegraph_diffusion.checkpoint.detect.sizes import ldm_unet_config
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import Header, HeaderCache
from nodegraph_diffusion.checkpoint.files.json_file import read_json
from nodegraph_diffusion.checkpoint.layouts.configs import read_unet
from nodegraph_diffusion.checkpoint.layouts.controlnet import DIFFERENCE_MARK, PREFIX
from nodegraph_diffusion.checkpoint.layouts.diffusers_folder import CONFIG, PICKLED, VARIANTS, WEIGHTS
from nodegraph_diffusion.networks.config import UNetConfig

_WEIGHTS = WEIGHTS["unet"]
_XL = {
    "channel_mult": (1, 2, 4),
    "transformer_depth": (0, 2, 10),
    "middle_depth": 10,
    "context_dim": 2048,
    "added_dim": 2816,
}
_PUBLISHED = {  # for diffusers' files without a config, by the width of the prompts that they attend to
    768: UNetConfig(),
    1024: UNetConfig(num_heads=None, head_channels=64, context_dim=1024, linear_projection=True),
    2048: UNetConfig(num_heads=None, head_channels=64, linear_projection=True, **_XL),  # type: ignore[arg-type]
}
_ATTENTION = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@dataclass(frozen=True, kw_only=True)
class ControlNetFile:
    """A ControlNet on disk. `config` are the sizes of the UNet whose half it copies; `difference`: it holds differences from it.

    `notes` say what was ignored.
    """

    path: Path
    weights: Path
    layout: Literal["ldm", "diffusers"]
    config: UNetConfig
    difference: bool
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
            return ControlNetFile(path=path, weights=header.path, layout="diffusers", config=config, difference=False)
        prefix = PREFIX if any(key.startswith(PREFIX) for key in tensors) else ""
        if f"{prefix}input_hint_block.0.weight" in tensors:
            config = ldm_unet_config(Shapes(header, prefix), whole=False)
            difference = DIFFERENCE_MARK in tensors
            return ControlNetFile(path=path, weights=header.path, layout="ldm", config=config, difference=difference)
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        expected, hint = "sizes of a ControlNet for Stable Diffusion", "The file is damaged or has another layout."
        raise CheckpointError(header.path, expected=expected, found=str(error), hint=hint) from error
    hint = "Give a .safetensors file, or the folder that diffusers wrote."
    raise file_refusal("controlnet", header.path, tensors, found=contents, hint=hint)


def _diffusers_config(folder: Path | None, header: Header) -> UNetConfig:
    """The sizes in the folder's config; without one, those of the published family that the shapes show."""
    if folder is not None and (folder / CONFIG).is_file():
        config = read_json(folder / CONFIG)
        ups = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}
        blocks = [ups[name] for name in reversed(config["down_block_types"])]
        return read_unet({**config, "up_block_types": blocks, "out_channels": config["in_channels"]})
    width = header.tensors[_ATTENTION].shape[1] if _ATTENTION in header.tensors else 0
    if width not in _PUBLISHED:
        raise ValueError(f"prompts of width {width}, which no Stable Diffusion has")
    return _PUBLISHED[width]
