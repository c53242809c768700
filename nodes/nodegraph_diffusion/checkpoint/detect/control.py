"""ControlNets on disk: the layout of their authors, diffusers' folders and single files, and files of differences."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from nodegraph_diffusion.checkpoint.detect.configs import read_unet
from nodegraph_diffusion.checkpoint.detect.contents import folder_class, not_a
from nodegraph_diffusion.checkpoint.detect.folder import PICKLED
from nodegraph_diffusion.checkpoint.detect.ldm import encoder_config
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import TensorInfo, read_header
from nodegraph_diffusion.checkpoint.files.json_file import read_json
from nodegraph_diffusion.checkpoint.layouts.modules import rename, unet_modules
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece
from nodegraph_diffusion.networks.config import UNetConfig

if TYPE_CHECKING:
    import torch

    from nodegraph_diffusion.networks.controlnet import ControlNet
    from nodegraph_diffusion.networks.unet import UNet

WEIGHTS = "diffusion_pytorch_model.safetensors"
DIFFERENCE = "difference"  # the mark of a file that holds what is to be added to the UNet's weights

_PREFIX = "control_model."
_XL = {
    "channel_mult": (1, 2, 4),
    "transformer_depth": (0, 2, 10),
    "middle_depth": 10,
    "context_dim": 2048,
    "added_dim": 2816,
}
_PUBLISHED = {  # diffusers' files without a config beside them, by the width of the prompts that they attend to
    768: UNetConfig(),
    1024: UNetConfig(num_heads=None, head_channels=64, context_dim=1024, linear_projection=True),
    2048: UNetConfig(num_heads=None, head_channels=64, linear_projection=True, **_XL),  # type: ignore[arg-type]
}
_ATTENTION = "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight"


@dataclass(frozen=True)
class ControlFile:
    """A ControlNet on disk: its sizes, those of the UNet's half that it copies; whether it holds differences from it."""

    path: Path
    weights: Path
    layout: str
    config: UNetConfig
    difference: bool

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that counts, in a fixed order."""
        config = self.weights.with_name("config.json")
        return (self.weights, config) if self.path.is_dir() else (self.weights,)


def detect_control(path: Path) -> ControlFile:
    """The ControlNet at `path`, a file or a diffusers folder, by its header. Raises CheckpointError for anything else."""
    weights = _weights(path) if path.is_dir() else path
    if path.is_dir() and not weights.exists():
        found, hint = folder_class(path), "Give a file of weights, or the folder that diffusers wrote."
        said = f"no {WEIGHTS} in the folder" if found is None else found.name
        raise CheckpointError(path, expected="a ControlNet", found=said, hint=hint, holds=found.holds if found else None)
    tensors = read_header(weights)
    try:
        if any(key.startswith("controlnet_cond_embedding.") for key in tensors):
            return ControlFile(path, weights, "diffusers", _their_config(path, tensors), False)
        prefix = _PREFIX if any(key.startswith(_PREFIX) for key in tensors) else ""
        if f"{prefix}input_hint_block.0.weight" in tensors:
            return ControlFile(path, weights, "ldm", encoder_config(weights, tensors, prefix), DIFFERENCE in tensors)
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        expected, hint = "sizes of a ControlNet for Stable Diffusion", "The file is damaged or of another layout."
        raise CheckpointError(weights, expected=expected, found=str(error), hint=hint) from error
    raise not_a("controlnet", weights, tensors, "Give a .safetensors file, or the folder that diffusers wrote.")


def _weights(folder: Path) -> Path:
    """The weights in a diffusers folder: those in full, else in half precision, else a pickle; the first where there are none."""
    names = [f"{Path(name).stem}{half}{Path(name).suffix}" for name in (WEIGHTS, PICKLED[WEIGHTS]) for half in ("", ".fp16")]
    return next((folder / name for name in names if (folder / name).is_file()), folder / WEIGHTS)


def load_control(file: ControlFile, device: torch.device | str, dtype: torch.dtype, base: UNet | None = None) -> ControlNet:
    """The network, in evaluation mode, without gradients; `base` is the UNet that a file of differences is to be added to.

    Raises CheckpointError where a tensor is off, and ValueError where such a file has no base, or one of another width.
    """
    from nodegraph_diffusion.checkpoint.load.blank import blank
    from nodegraph_diffusion.checkpoint.load.fill import fill, find_sources
    from nodegraph_diffusion.networks.controlnet import ControlNet

    network = blank(ControlNet, file.config)
    sources = find_sources(network, "ControlNet", [file.weights], "", _renaming(file))
    network = fill(network, sources, device, dtype)
    if not file.difference:
        return network
    if base is None:
        raise ValueError(f"{file.path} holds differences from a UNet: give the UNet that it is for, too")
    weights = base.state_dict()
    state = network.state_dict()
    for key, value in state.items():
        if key in weights:
            if weights[key].shape != value.shape:
                raise ValueError(
                    f"{file.path}: expected a UNet with {key!r} of shape {list(value.shape)}, found one of another width"
                )
            state[key] = (value.float() + weights[key].to(device).float()).to(dtype)
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def _renaming(file: ControlFile) -> Callable[[str], list[Piece]]:
    if file.layout == "ldm":
        return lambda key: [] if key == DIFFERENCE else [Piece(key.removeprefix(_PREFIX))]
    modules = {theirs: ours for ours, theirs in control_modules(file.config).items()}
    return lambda key: [Piece(rename(key, modules))]


def control_modules(config: UNetConfig) -> dict[str, str]:
    """The authors' name of each module -> diffusers'."""
    table = unet_modules(config)
    table |= {
        "input_hint_block.0": "controlnet_cond_embedding.conv_in",
        "input_hint_block.14": "controlnet_cond_embedding.conv_out",
    }
    table |= {f"input_hint_block.{2 + 2 * i}": f"controlnet_cond_embedding.blocks.{i}" for i in range(6)}
    skips = len(config.channel_mult) * (config.num_res_blocks + 1)
    table |= {f"zero_convs.{i}.0": f"controlnet_down_blocks.{i}" for i in range(skips)}
    return table | {"middle_block_out.0": "controlnet_mid_block"}


def _their_config(path: Path, tensors: Mapping[str, TensorInfo]) -> UNetConfig:
    """The sizes in a diffusers folder's config, or those of the published family that the shapes tell."""
    beside = path / "config.json"
    if path.is_dir() and beside.is_file():
        config = read_json(beside)
        ups = {"CrossAttnDownBlock2D": "CrossAttnUpBlock2D", "DownBlock2D": "UpBlock2D"}
        blocks = [ups[name] for name in reversed(config["down_block_types"])]
        return read_unet({**config, "up_block_types": blocks, "out_channels": config["in_channels"]})
    width = tensors[_ATTENTION].shape[1] if _ATTENTION in tensors else 0
    if width not in _PUBLISHED:
        raise ValueError(f"prompts of width {width}, as no Stable Diffusion has them")
    return _PUBLISHED[width]
