"""TAESD on disk: its author's files, one for each half, and diffusers' AutoencoderTiny."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import TensorInfo, read_header
from nodegraph_diffusion.networks.config import TAESDConfig

if TYPE_CHECKING:
    import torch

    from nodegraph_diffusion.networks.taesd import TAESD

Half = Literal["encoder", "decoder"]

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")

_DTYPES = ("F16", "BF16", "F32", "F64")
_NAMED = re.compile(r"tae(sdxl|sd(?!3))", re.IGNORECASE)


@dataclass(frozen=True)
class TAESDFile:
    """Half of a TAESD on disk: its sizes, and what each of its tensors is called there."""

    path: Path
    config: TAESDConfig
    names: Mapping[str, str]

    @property
    def space(self) -> Literal["sd", "sdxl"] | None:
        """Whose latents it is for, if its path says so as the published ones do: both are of one shape."""
        named = _NAMED.findall(str(self.path))
        return None if not named else "sdxl" if named[-1].lower() == "sdxl" else "sd"


def detect_taesd(path: Path, half: Half = "decoder") -> TAESDFile:
    """The half of a TAESD at `path`, a file or a diffusers folder, by its header. Raises CheckpointError for anything else.

    Every tensor's name, shape and dtype is checked, without torch.
    """
    file = next((path / name for name in WEIGHTS if (path / name).exists()), path / WEIGHTS[0]) if path.is_dir() else path
    tensors = read_header(file)
    first, last = (f"{place}.weight" for place, layer in enumerate(TAESDConfig(half).layers) if layer == "conv")
    for name_of in (partial(_diffusers_name, half), f"{half}.{{}}".format, str):
        if name_of(first) in tensors:
            latent = (tensors.get(name_of(last)), 0) if half == "encoder" else (tensors[name_of(first)], 1)
            config = TAESDConfig(half, _size(*latent))
            names = {key: name_of(key) for key in config.shapes}
            _require_whole(file, config, names, tensors)
            return TAESDFile(file, config, names)
    some = ", ".join(repr(key) for key in sorted(tensors)[:2]) or "no tensor"
    raise CheckpointError(
        file,
        expected=f"a TAESD {half}",
        found=f"a file of other tensors ({some}, ...)",
        hint=f"Give taesd_{half}.safetensors, taesdxl_{half}.safetensors, or the folder that diffusers wrote.",
    )


def load_taesd(file: TAESDFile, device: torch.device | str, dtype: torch.dtype) -> TAESD:
    """The network, in evaluation mode, without gradients."""
    from nodegraph_diffusion.checkpoint.layouts.openclip import Piece
    from nodegraph_diffusion.checkpoint.load.blank import blank
    from nodegraph_diffusion.checkpoint.load.fill import Source, fill
    from nodegraph_diffusion.networks.taesd import TAESD

    network = blank(TAESD, file.config)
    return fill(network, {key: Source(file.path, name, Piece(key)) for key, name in file.names.items()}, device, dtype)


def _diffusers_name(half: Half, key: str) -> str:
    """There the clamp of a decoder has no place of its own."""
    place, dot, rest = key.partition(".")
    return f"{half}.layers.{int(place) - (half == 'decoder')}{dot}{rest}"


def _size(info: TensorInfo | None, axis: int) -> int:
    """How many channels a latent has, by a tensor that comes from or leads to it; 4 where that is damaged, which is told later."""
    return info.shape[axis] if info is not None and len(info.shape) == 4 and info.shape[axis] else 4


def _require_whole(file: Path, config: TAESDConfig, names: Mapping[str, str], tensors: Mapping[str, TensorInfo]) -> None:
    """Raise CheckpointError unless every tensor is there, in its shape, and no other but those of the other half."""
    known = {*names.values()}
    other = "decoder." if config.half == "encoder" else "encoder."
    wrong = [f"no {name!r}" for name in names.values() if name not in tensors]
    wrong += [f"{name!r}, which is unknown" for name in tensors if name not in known and not name.startswith(other)]
    for key, shape in config.shapes.items():
        info = tensors.get(names[key])
        if info is not None and (info.shape != shape or info.dtype not in _DTYPES):
            wrong.append(f"{names[key]!r} of shape {list(info.shape)} in {info.dtype}, not {list(shape)}")
    if wrong:
        raise CheckpointError(
            file,
            expected=f"the {len(names)} tensors of a TAESD {config.half}",
            found=f"{wrong[0]}{f' and {len(wrong) - 1} more that are wrong' if len(wrong) > 1 else ''}",
            hint="The file is damaged, or of another model.",
        )
