"""Checkpoints with a published layout and synthetic values, because real weights are large and cannot be shipped.

    python -m tests.support.synthetic_checkpoints sd15-ldm out.safetensors      # float16, 2.1 GB

`data/layouts/` lists the keys and shapes of published files. Each tensor is drawn from a generator of its own, seeded by
the CRC-32 of its key, on a scale that keeps activations of order one through the whole network: any program that fills a
layout so computes with the same numbers.
"""

from __future__ import annotations

import argparse
import gzip
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

LAYOUTS = Path(__file__).parents[1] / "data" / "layouts"


def read_layout(name: str) -> dict[str, list[int]]:
    """Key -> shape of the published file that `data/layouts/<name>.json.gz` lists."""
    layout: dict[str, list[int]] = json.loads(gzip.decompress((LAYOUTS / f"{name}.json.gz").read_bytes()))
    return layout


def draw(key: str, shape: list[int]) -> Tensor:
    """The values of one tensor: float32 (positions: int64) of `shape`, a function of `key` alone."""
    if key.endswith("position_ids"):
        return torch.arange(shape[-1]).reshape(shape)
    if key.endswith(".alpha"):
        return torch.tensor(2.0)
    if key.endswith("logit_scale"):
        return torch.tensor(4.6052)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if "embedding" in key and len(shape) == 2:
        return noise * 0.02
    if len(shape) == 1:
        return 1.0 + 0.1 * noise if key.endswith("weight") else 0.02 * noise
    return noise / math.sqrt(math.prod(shape[1:]))


def fill(module: nn.Module, prefix: str = "") -> None:
    """Give every parameter of `module` the values of its name below `prefix`."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(draw(prefix + name, list(parameter.shape)))


def write(layout: Mapping[str, list[int]], out: Path, dtype: torch.dtype = torch.float16) -> None:
    """Write the file of `layout` to `out`, its floating-point tensors in `dtype`."""
    tensors = {}
    for key, shape in layout.items():
        value = draw(key, shape)
        tensors[key] = value.to(dtype) if value.is_floating_point() else value
    save_file(tensors, out, metadata={"format": "pt"})


def sparse(layout: Mapping[str, list[int]], out: Path) -> Path:
    """Write a file of `layout`, in float16, whose tensors take no disk space, to `out` and return that."""
    offset, header = 0, {}
    for key, shape in layout.items():
        header[key] = {"dtype": "F16", "shape": shape, "data_offsets": [offset, offset := offset + 2 * math.prod(shape)]}
    text = json.dumps(header).encode()
    with out.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        stream.truncate(8 + len(text) + offset)
    return out


def main() -> None:
    """Write the layout named on the command line."""
    parser = argparse.ArgumentParser(description="Write a checkpoint of a published layout with made-up values")
    parser.add_argument("layout", choices=sorted(file.name.removesuffix(".json.gz") for file in LAYOUTS.iterdir()))
    parser.add_argument("out", type=Path)
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"])
    arguments = parser.parse_args()
    write(read_layout(arguments.layout), arguments.out, getattr(torch, arguments.dtype))


if __name__ == "__main__":
    main()
