"""Upscaling networks of the ESRGAN kind, with the names of ESRGAN, of BSRGAN and of Real-ESRGAN."""

from __future__ import annotations

import re
from math import isqrt

from nodegraph_diffusion.checkpoint.detect.contents import Contents, file_refusal
from nodegraph_diffusion.checkpoint.detect.extra_networks.file import NetworkFile, damage_of, network_file
from nodegraph_diffusion.checkpoint.detect.extra_networks.other_upscaler import OtherUpscalerFile, other_upscaler
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes
from nodegraph_diffusion.checkpoint.files.header import Header
from nodegraph_diffusion.networks.config import UpscalerConfig
from nodegraph_diffusion.networks.shapes import upscaler_shapes

PREFIXES = ("", "params_ema.", "params.")  # in files of the training program
_BSRGAN = (
    (r"RRDB_trunk\.(\d+)\.RDB(\d)\.", r"body.\1.rdb\2."),
    (r"trunk_conv\.", "conv_body."),
    (r"upconv(\d)\.", r"conv_up\1."),
    (r"HRconv\.", "conv_hr."),
)
_NOT_ONE = "Give a file of ESRGAN, BSRGAN or Real-ESRGAN. Most other kinds can be loaded after pip install 'nodegraph[upscale]'."


class UpscalerFile(NetworkFile[UpscalerConfig]):
    """A file with an upscaling network."""


def file_upscaler(header: Header, contents: Contents) -> UpscalerFile | OtherUpscalerFile:
    """The upscaling network in a file. Raises CheckpointError for other files; with spandrel, only for those known as such."""
    prefix = next((prefix for prefix in PREFIXES if any(_is_first(key, prefix) for key in header.tensors)), None)
    if contents.name is None and header.tensors and (other := other_upscaler(header)) is not None:
        return other
    if prefix is None or contents.content not in (None, "upscaler") or contents.other_family:
        raise file_refusal("upscaler", header.path, header.tensors, found=contents, hint=_NOT_ONE)
    keys = [key.removeprefix(prefix) for key in header.tensors if key.startswith(prefix)]
    ours = {prefix + key: name for key, name in zip(keys, _our_names(keys), strict=True)}
    tensors = {ours[key]: info for key, info in header.tensors.items() if key in ours}
    shapes = Shapes(Header(header.path, tensors))
    with damage_of(header.path, "an upscaling network"):
        width, channels = shapes.get("conv_first.weight", 4)[:2]
        out = shapes.get("conv_last.weight", 4)[0]
        unshuffle = isqrt(channels // out) if out else 0
        if out != UpscalerConfig.channels or channels != out * unshuffle**2:
            raise ValueError(f"{channels} input channels and {out} output channels")
        config = UpscalerConfig(
            width=width,
            growth=shapes.get("body.0.rdb1.conv1.weight", 4)[0],
            blocks=shapes.count("body.{}.rdb1.conv1.weight"),
            doublings=sum(f"conv_up{i}.weight" in shapes for i in range(1, 9)),
            unshuffle=unshuffle,
        )
        if config.unshuffle > 1 << config.doublings:
            raise ValueError(f"a picture made {config.unshuffle} times smaller and then {1 << config.doublings} times larger")
    return network_file(UpscalerFile, header, config, upscaler_shapes(config), name="upscaling network", rename=ours.get)


def _is_first(key: str, prefix: str) -> bool:
    return key in (f"{prefix}conv_first.weight", f"{prefix}model.0.weight")


def _our_names(keys: list[str]) -> list[str]:
    """Our names of the tensors of a network, in Real-ESRGAN's style."""
    if "model.0.weight" not in keys:
        return [_renamed(key) for key in keys]
    blocks = {int(match[1]) for key in keys if (match := re.match(r"model\.1\.sub\.(\d+)\.", key))}
    layers = sorted({int(match[1]) for key in keys if (match := re.match(r"model\.(\d+)\.(weight|bias)", key))})
    names = {0: "conv_first", **{layer: f"conv_up{i}" for i, layer in enumerate(layers[1:-2], 1)}}
    names |= dict(zip(layers[-2:], ("conv_hr", "conv_last"), strict=False))
    last = max(blocks, default=0)
    renamed = []
    for key in keys:
        key = re.sub(rf"^model\.1\.sub\.{last}\.(weight|bias)$", r"conv_body.\1", key)
        key = re.sub(r"^model\.1\.sub\.(\d+)\.RDB(\d)\.conv(\d)\.0\.", r"body.\1.rdb\2.conv\3.", key)
        match = re.fullmatch(r"model\.(\d+)\.(weight|bias)", key)
        renamed.append(key if match is None else f"{names[int(match[1])]}.{match[2]}")
    return renamed


def _renamed(key: str) -> str:
    for theirs, ours in _BSRGAN:
        key = re.sub(rf"^{theirs}", ours, key)
    return key
