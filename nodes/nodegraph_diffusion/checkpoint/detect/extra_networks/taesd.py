"""TAESD on disk: its author's files, one for each half, and diffusers' AutoencoderTiny."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from nodegraph_diffusion.checkpoint.detect.contents import first_names
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import Header, HeaderCache
from nodegraph_diffusion.checkpoint.files.tensor_info import TensorInfo
from nodegraph_diffusion.networks.config import TAESDConfig

Half = Literal["encoder", "decoder"]

WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.fp16.safetensors")

_DTYPES = ("F16", "BF16", "F32", "F64")
_NAME_IN_PATH = r"tae(sdxl|sd(?!3))"


@dataclass(frozen=True)
class TAESDFile:
    """Half of a TAESD on disk: its sizes, and the name of each of its tensors there."""

    path: Path
    config: TAESDConfig
    names: Mapping[str, str]

    @property
    def space(self) -> Literal["sd", "sdxl"] | None:
        """The family of its latents, if its path shows that as published paths do. Shapes do not show it."""
        names = re.findall(_NAME_IN_PATH, str(self.path), re.IGNORECASE)
        return None if not names else "sdxl" if names[-1].lower() == "sdxl" else "sd"


def folder_taesd(folder: Path, half: Half, headers: HeaderCache) -> TAESDFile:
    """The half of a TAESD in a folder that diffusers wrote. Raises CheckpointError for other folders."""
    return file_taesd(
        headers.read(next((folder / name for name in WEIGHTS if (folder / name).exists()), folder / WEIGHTS[0])), half
    )


def file_taesd(header: Header, half: Half) -> TAESDFile:
    """The half of a TAESD in a file. Raises CheckpointError for other files, and if a name, shape or dtype is wrong."""
    tensors = header.tensors
    first, last = (f"{index}.weight" for index, layer in enumerate(TAESDConfig(half).layers) if layer == "conv")
    for name_of in (partial(_diffusers_name, half), f"{half}.{{}}".format, str):
        if name_of(first) in tensors:
            latent = (tensors.get(name_of(last)), 0) if half == "encoder" else (tensors[name_of(first)], 1)
            config = TAESDConfig(half, _latent_channels(*latent))
            names = {key: name_of(key) for key in config.shapes}
            _require_whole(header, config, names)
            return TAESDFile(header.path, config, names)
    raise CheckpointError(
        header.path,
        expected=f"a TAESD {half}",
        found=f"a file of other tensors ({first_names(tensors, 2)}, ...)",
        hint=f"Give taesd_{half}.safetensors, taesdxl_{half}.safetensors, or the folder that diffusers wrote.",
    )


def _diffusers_name(half: Half, key: str) -> str:
    """diffusers' name of a tensor: it does not count the clamp at the start of a decoder as a layer."""
    index, dot, rest = key.partition(".")
    return f"{half}.layers.{int(index) - (half == 'decoder')}{dot}{rest}"


def _latent_channels(info: TensorInfo | None, axis: int) -> int:
    """The channels of a latent, by a tensor that leads to or from it; 4 if it is damaged, which is reported later."""
    return info.shape[axis] if info is not None and len(info.shape) == 4 and info.shape[axis] else 4


def _require_whole(header: Header, config: TAESDConfig, names: Mapping[str, str]) -> None:
    """Raise CheckpointError unless the file has every tensor in its shape, and no other ones except those of the other half."""
    tensors, expected = header.tensors, {*names.values()}
    other = "decoder." if config.half == "encoder" else "encoder."
    wrong = [f"no {name!r}" for name in names.values() if name not in tensors]
    wrong += [f"{name!r}, which is unknown" for name in tensors if name not in expected and not name.startswith(other)]
    for key, shape in config.shapes.items():
        info = tensors.get(names[key])
        if info is not None and (info.shape != shape or info.dtype not in _DTYPES):
            wrong.append(f"{names[key]!r} of shape {list(info.shape)} in {info.dtype}, not {list(shape)}")
    if wrong:
        raise CheckpointError(
            header.path,
            expected=f"the {len(names)} tensors of a TAESD {config.half}",
            found=f"{wrong[0]}{f' and {len(wrong) - 1} more that are wrong' if len(wrong) > 1 else ''}",
            hint="The file is damaged, or belongs to another model.",
        )
