"""Writing a model as one file, in the layout of the published latent diffusion models."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from nodegraph_diffusion.checkpoint.detect.description import describe
from nodegraph_diffusion.checkpoint.families import NAMES, TEXT_PARTS, Kind
from nodegraph_diffusion.checkpoint.layouts.ldm import PREFIXES, VELOCITY_MARK, ZERO_SNR_MARK
from nodegraph_diffusion.checkpoint.layouts.openclip import Piece, openclip_names
from nodegraph_diffusion.checkpoint.write.stream import Made, Stored, write_tensors
from nodegraph_diffusion.checkpoint.write.weights import dtype_name, made, replaced_at_once, require_read_back
from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.noise_schedule import NoiseSchedule

_HINT = "write it as a folder instead (save_diffusers), which says its sizes, noise schedule and vocabulary"


def save_single_file(
    path: Path,
    kind: Kind,
    *,
    unet: UNet,
    vae: AutoencoderKL,
    text_encoders: Sequence[CLIPTextModel],
    noise_schedule: NoiseSchedule | None = None,
    dtype: torch.dtype = torch.float16,
) -> None:
    """Write a whole model as a single safetensors file of this family, which our nodes, ComfyUI and diffusers load.

    Such a file says no number of heads or groups, no noise schedule but what is predicted, and no vocabulary: they are those of
    the family. Raises ValueError, and leaves no file, if this model has others.
    """
    prefixes = PREFIXES[kind]
    parts = [part for part in TEXT_PARTS if part in prefixes]
    if len(parts) != len(text_encoders):
        raise ValueError(f"save_single_file: expected {len(parts)} text encoders in {NAMES[kind]}, found {len(text_encoders)}")
    name = dtype_name(dtype)
    tensors: dict[str, Stored | Made] = {}
    for network, prefix in ((unet, prefixes["unet"]), (vae, prefixes["vae"])):
        state = network.state_dict()
        tensors |= {f"{prefix}{key}": made(state, [Piece(key)], name) for key in state}
    for part, encoder in zip(parts, text_encoders, strict=True):
        tensors |= _text_tensors(encoder, prefixes[part], name)
    schedule = noise_schedule or NoiseSchedule()
    marks = {VELOCITY_MARK: schedule.prediction == "v", ZERO_SNR_MARK: schedule.zero_snr}
    tensors |= {mark: made({mark: torch.zeros(0)}, [Piece(mark)], name) for mark, holds in marks.items() if holds}
    expected = (unet.config, vae.config, *(encoder.config for encoder in text_encoders), schedule)
    with replaced_at_once(path) as partial:
        write_tensors(partial, tensors, {})
        require_read_back(path, lambda: _read(partial, kind), expected, _HINT)


def _text_tensors(encoder: CLIPTextModel, prefix: str, dtype: str) -> dict[str, Made]:
    state: dict[str, Tensor] = encoder.state_dict()
    if ".transformer." in prefix:
        return {f"{prefix}text_model.{key}": made(state, [Piece(key)], dtype) for key in state}
    return {f"{prefix}{name}": made(state, pieces, dtype) for name, pieces in openclip_names(state).items()}


def _read(path: Path, kind: Kind) -> tuple[object, ...]:
    found = describe(path).model(kind)
    return found.unet.config, found.vae.config, *(part.config for part in found.text.parts), found.noise_schedule
