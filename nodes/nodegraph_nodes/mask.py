"""Nodes that make masks. White, 1, is what is repainted."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nodegraph import File, Help, Range, Run, node
from nodegraph_nodes.image import channel as channel_of
from nodegraph_nodes.image import open_picture
from nodegraph_nodes.types import Image, Mask

if TYPE_CHECKING:
    from torch import Tensor

Channel = Literal["luminance", "alpha", "red", "green", "blue"]
LUMINANCE = (0.299, 0.587, 0.114)  # ITU-R BT.601, as picture libraries turn colours to grey


def _one_source(**given: Any) -> Iterable[str]:
    sources = [name for name in ("path", "mask", "image") if given.get(name, "linked") is not None]
    if len(sources) != 1:
        yield f"a Mask is made from one of path, mask and image, not from {' and '.join(sources) or 'none'}"
    if given.get("channel") == "alpha" and "path" not in sources:
        yield "the alpha channel is a file's: give the path, or link LoadImage's mask"


@node("Mask", check=_one_source)
def mask(
    path: File | None = None,
    mask: Mask | None = None,
    image: Image | None = None,
    channel: Annotated[Channel, Help("of a file or picture: which of its values count")] = "luminance",
    invert: bool = False,
    threshold: Annotated[float | None, Range(0, 1), Help("make it black and white: white from here on")] = None,
    grow: Annotated[float, Range(-1024, 1024), Help("pixels to widen it by; below 0, to narrow it by")] = 0,
    blur: Annotated[float, Range(0, 1024), Help("pixels to soften its edge by (standard deviation)")] = 0,
) -> Mask:
    """A mask from a file, a picture or another mask: inverted, cut at a threshold, grown and blurred, in this order."""
    if path is not None:
        values = channel_of(open_picture(path), channel)
    elif image is not None:
        values = _channel_of_pixels(image.pixels, channel)
    elif mask is not None:
        values = mask.values
    else:
        raise ValueError("a Mask is made from a path, a mask or an image; none is given")
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


def dilated(values: Tensor, radius: float) -> Tensor:
    """Each value the largest within `radius` pixels: (B, H, W) -> (B, H, W)."""
    import torch
    import torch.nn.functional as F

    reach = int(radius)
    padded = F.pad(values, (reach,) * 4)
    height, width = values.shape[-2:]
    rows = []
    for dy in range(-reach, reach + 1):
        half = int(math.sqrt(radius**2 - dy**2))  # a disc, a row at a time
        row = padded[:, reach + dy : reach + dy + height, reach - half : reach + half + width]
        rows.append(F.max_pool1d(row, 2 * half + 1, stride=1))
    return torch.stack(rows).amax(dim=0)


def blurred(values: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of standard deviation `sigma` pixels, edges repeated: (B, H, W) -> (B, H, W)."""
    import torch
    import torch.nn.functional as F

    reach = math.ceil(3 * sigma)
    kernel = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    planes = values[:, None]
    for shape, padding in (((1, 1, 1, -1), (reach, reach, 0, 0)), ((1, 1, -1, 1), (0, 0, reach, reach))):
        planes = F.conv2d(F.pad(planes, padding, mode="replicate"), kernel.reshape(shape))
    return planes[:, 0].clamp(0, 1)


def _channel_of_pixels(pixels: Tensor, channel: Channel) -> Tensor:
    if channel == "luminance":
        return (pixels * pixels.new_tensor(LUMINANCE)).sum(dim=-1).clamp(0, 1)
    if channel == "alpha":
        raise ValueError("a picture between nodes has no alpha channel; give the path, or link LoadImage's mask")
    return pixels[..., ("red", "green", "blue").index(channel)]
