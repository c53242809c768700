"""Nodes that make masks. White, 1, is what is repainted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nodegraph import File, Help, Range, Run, node
from nodegraph_nodes.pictures import read_picture
from nodegraph_nodes.types import Image, Latent, Mask

if TYPE_CHECKING:
    from torch import Tensor

Channel = Literal["luminance", "alpha", "red", "green", "blue"]


def _one_source(**given: Any) -> Iterable[str]:
    sources = [name for name in ("path", "mask", "image") if given.get(name, "linked") is not None]
    if len(sources) != 1:
        yield f"a Mask is made from one of path, mask and image; it is given {' and '.join(sources) or 'none of them'}"
    elif given.get("channel") == "alpha" and sources != ["path"]:
        yield "only a file has an alpha channel: give its path, or link the mask of its LoadImage"


@node("Mask", check=_one_source, foreign_names=("LoadImageMask", "ImageToMask", "InvertMask", "GrowMask", "ThresholdMask"))
def mask(
    path: File | None = None,
    mask: Mask | None = None,
    image: Image | None = None,
    channel: Annotated[Channel, Help("of a file or picture: which of its values count")] = "luminance",
    invert: bool = False,
    threshold: Annotated[float | None, Range(0, 1), Help("make it black and white: white from here on")] = None,
    grow: Annotated[float, Range(-1024, 1024), Help("pixels to widen it by; below 0, to narrow it by")] = 0,
    blur: Annotated[float, Range(0, 1024), Help("pixels to soften its edge by (standard deviation)")] = 0,
    run: Run = Run(),
) -> Mask:
    """A mask from a file, a picture or another mask.

    It is inverted, cut at a threshold, grown and blurred, in this order.
    """
    if path is not None:
        pixels, opacity = read_picture(path, run)
        values = opacity if channel == "alpha" else _channel(pixels, channel)
    elif image is not None:
        values = _channel(image.pixels, channel)
    elif mask is not None:
        values = mask.values
    else:
        raise ValueError("a Mask is made from one of path, mask and image; it is given none of them")
    if invert:
        values = 1 - values
    if threshold is not None:
        values = (values >= threshold).float()
    if grow:
        values = dilated(values, grow) if grow > 0 else 1 - dilated(1 - values, -grow)
    return Mask(blurred(values, blur) if blur else values)


def resized(mask: Mask, size: tuple[int, int], run: Run) -> Mask:
    """`mask` at `size` (H, W), with a notice where that is not its own."""
    import torch.nn.functional as F

    height, width = mask.values.shape[-2:]
    if (height, width) == tuple(size):
        return mask
    run.notice(f"the mask is {width}x{height} and the picture {size[1]}x{size[0]}: the mask is resized")
    return Mask(F.interpolate(mask.values[:, None], size=size, mode="bilinear", antialias=True)[:, 0].clamp(0, 1))


def covering(mask: Mask, latent: Latent, run: Run) -> Tensor:
    """A mask of the pictures as one of all that their latent covers: at their size, then padded as they were, (B, 1, H, W)."""
    import torch.nn.functional as F

    rows, columns = latent.padding
    return F.pad(resized(mask, latent.size, run).values[:, None], (0, columns, 0, rows), mode="replicate")


def dilated(values: Tensor, radius: float) -> Tensor:
    """Each value the largest within `radius` pixels: (B, H, W) -> (B, H, W). Beyond the edges there is nothing.

    A disc is a stack of rows that widen toward its middle, so each row's maximum comes from that of the row before.
    """
    import torch
    import torch.nn.functional as F

    height = values.shape[-2]
    grown, row, reach = values, values, 0
    for dy in range(int(radius), -1, -1):
        half = int(math.sqrt(radius**2 - dy**2))
        if half > reach:
            row = F.max_pool1d(row, 2 * (half - reach) + 1, stride=1, padding=half - reach)
            reach = half
        if dy < height:
            above, below = F.pad(row[:, dy:], (0, 0, 0, dy)), F.pad(row[:, : height - dy], (0, 0, dy, 0))
            grown = torch.maximum(grown, torch.maximum(above, below))
    return grown


def blurred(values: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of standard deviation `sigma` pixels, cut at three of them, edges repeated: (B, H, W) -> (B, H, W)."""
    import torch
    import torch.nn.functional as F

    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    planes = values[:, None]
    for shape, padding in (((1, 1, 1, -1), (reach, reach, 0, 0)), ((1, 1, -1, 1), (0, 0, reach, reach))):
        planes = F.conv2d(F.pad(planes, padding, mode="replicate"), kernel.reshape(shape))
    return planes[:, 0].clamp(0, 1)


def _channel(pixels: Tensor, channel: Channel) -> Tensor:
    """One channel of (B, H, W, 3): (B, H, W). Luminance is ITU-R BT.601's, written so that grey stays exactly as it is."""
    if channel == "alpha":
        raise ValueError("a picture between nodes has no alpha channel. Give the path, or link the mask of its LoadImage")
    red, green, blue = pixels.unbind(dim=-1)
    if channel == "luminance":
        return (green + 0.299 * (red - green) + 0.114 * (blue - green)).clamp(0, 1)
    return {"red": red, "green": green, "blue": blue}[channel].contiguous()
