"""Writing a ControlNet: as a folder that diffusers opens, or as a single file as its authors publish them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from nodegraph_diffusion.checkpoint.detect.description import describe
from nodegraph_diffusion.checkpoint.layouts.controlnet import PREFIX, controlnet_modules, write_controlnet
from nodegraph_diffusion.checkpoint.layouts.diffusers_folder import CONFIG, WEIGHTS
from nodegraph_diffusion.checkpoint.layouts.modules import rename
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece
from nodegraph_diffusion.checkpoint.write.stream import write_tensors
from nodegraph_diffusion.checkpoint.write.weights import dtype_name, made, replaced_at_once, require_read_back
from nodegraph_diffusion.networks.controlnet import ControlNet

_HINT = "write it as a folder, whose config says its sizes, for a UNet of one of the published families"


def save_controlnet(path: Path, control: ControlNet, *, dtype: torch.dtype = torch.float16) -> None:
    """Write a ControlNet to a .safetensors file with its authors' names, or to a folder as diffusers does.

    A single file says no number of heads or groups. Raises ValueError, and leaves no weights, if a ControlNet of these sizes cannot
    be read from what was written.
    """
    state, name = control.state_dict(), dtype_name(dtype)
    config = replace(control.config, out_channels=control.config.in_channels, up_depth=None)  # a ControlNet has no way up
    if path.suffix == ".safetensors":
        with replaced_at_once(path) as partial:
            write_tensors(partial, {f"{PREFIX}{key}": made(state, [Piece(key)], name) for key in state}, {})
            expected = (config, control.hint_widths)
            require_read_back(path, lambda: _read(partial), expected, _HINT)
        return
    table = controlnet_modules(control.config, control.hint_widths)
    with replaced_at_once(path / WEIGHTS["unet"]) as partial:
        write_tensors(partial, {rename(key, table): made(state, [Piece(key)], name) for key in state}, {})
        text = json.dumps(write_controlnet(config, control.hint_widths), indent=2)
        (path / CONFIG).write_text(f"{text}\n", encoding="utf-8")
        require_read_back(path, lambda: _read(partial), (config, control.hint_widths), _HINT)


def _read(path: Path) -> tuple[object, ...]:
    found = describe(path).controlnet()
    return replace(found.config, up_depth=None), found.hint_widths
