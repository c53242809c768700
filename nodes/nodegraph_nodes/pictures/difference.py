"""How much two pictures differ: in numbers, and side by side with the difference amplified."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from torch import Tensor

_WINDOW: Final = 11  # pixels of the window of SSIM, a Gaussian of width 1.5
_SIGMA: Final = 1.5
_GAP: Final = 8
_MAGIC: Final = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF")


def can_compare(data: bytes) -> bool:
    """Whether a file begins like a picture in one of the formats of outputs."""
    return data.startswith(_MAGIC)


def difference(first: Path, second: Path, path: Path | None) -> dict[str, float | str]:
    """The largest difference of a channel (0 to 255), PSNR in decibels, and SSIM of two pictures.

    `path` gets a PNG with both and their difference, amplified to the full range. Raises ValueError for files that are no pictures
    and for pictures of different sizes.
    """
    from nodegraph import Run
    from nodegraph_nodes.pictures.files import read_picture

    one, other = (read_picture(file, Run())[0][0] for file in (first, second))
    if one.shape != other.shape:
        sizes = " and ".join(f"{picture.shape[1]}x{picture.shape[0]}" for picture in (one, other))
        raise ValueError(f"expected two pictures of one size, found {sizes}. Resize one of them")
    apart = (one - other).abs()
    largest = apart.max().item()
    error = apart.double().square().mean().item()
    measured: dict[str, float | str] = {
        "same": largest == 0,
        "maximum": round(largest * 255, 4),
        "psnr": "infinite" if error == 0 else round(-10 * math.log10(error), 4),
        "ssim": round(ssim(one, other), 6),
    }
    if path is not None:
        factor = 1.0 if largest == 0 else 1 / largest
        measured["amplified"] = round(factor, 4)
        _write(path, [one, other, apart * factor])
    return measured


def ssim(one: Tensor, other: Tensor) -> float:
    """The structural similarity of two pictures (H, W, 3) with values from 0 to 1 (Wang et al. 2004), the mean of the channels.

    In pictures smaller than the window, the window is as large as the smaller side.
    """
    import torch
    import torch.nn.functional as F

    size = min(_WINDOW, *one.shape[:2])
    steps = torch.arange(size, dtype=torch.float64) - (size - 1) / 2
    line = torch.exp(-steps.square() / (2 * _SIGMA**2))
    window = torch.outer(line, line)
    window = (window / window.sum())[None, None]

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(values, window)

    x, y = (picture.double().permute(2, 0, 1)[:, None] for picture in (one, other))  # (3, 1, H, W)
    mean_x, mean_y = mean(x), mean(y)
    var_x, var_y = mean(x * x) - mean_x**2, mean(y * y) - mean_y**2
    covariance = mean(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    similarity = ((2 * mean_x * mean_y + c1) * (2 * covariance + c2)) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return similarity.mean().item()


def _write(path: Path, pictures: list[Tensor]) -> None:
    from nodegraph.plugin_api import write_whole
    from nodegraph_nodes.pictures.sheets import as_png, contact_sheet

    write_whole(path, as_png(contact_sheet(pictures, len(pictures), _GAP, "white")[None]))
