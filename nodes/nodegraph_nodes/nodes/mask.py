"""Nodes that make masks. White, 1, is repainted; what is transparent in a file is to be repainted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated, Any, Literal

from nodegraph import Help, Range, Run, node
from nodegraph_nodes.models.find import AnyFile
from nodegraph_nodes.pictures.files import read_picture
from nodegraph_nodes.types import Image, Latent, Mask

if TYPE_CHECKING:
    from torch import Tensor

Channel = Literal["luminance", "alpha", "red", "green", "blue"]


def _check_source(**literals: Any) -> Iterable[str]:
    sources = [name for name in ("path", "mask", "image") if literals.get(name, "linked") is not None]
    if len(sources) != 1:
        yield f"a Mask is made from one of path, mask and image; found {' and '.join(sources) or 'none of them'}; give one"
    elif literals.get("channel") == "alpha" and sources != ["path"]:
        yield "only a file has an alpha channel: give its path, or link the mask of its LoadImage"


@node(
    "Mask",
    version=2,
    check=_check_source,
    foreign_names=("LoadImageMask", "ImageToMask", "InvertMask", "GrowMask", "ThresholdMask"),
)
def mask(
    path: AnyFile | None = None,
    mask: Mask | None = None,
    image: Image | None = None,
    channel: Annotated[
        Channel, Help("the channel of the file or picture to use; alpha: white where the file is transparent")
    ] = "luminance",
    invert: bool = False,
    threshold: Annotated[float | None, Range(0, 1), Help("values from here on become white, all others black")] = None,
    grow: Annotated[float, Range(-1024, 1024), Help("pixels to widen the white part by; negative values narrow it")] = 0,
    blur: Annotated[float, Range(0, 1024), Help("standard deviation of a Gaussian blur, in pixels")] = 0,
    corners: Annotated[
        Literal["round", "square", "diamond"], Help("the shape that grow gives to a single white pixel; ComfyUI has the last two")
    ] = "round",
    run: Run = Run(),
) -> Mask:
    """Make a mask from a file, a picture or another mask.

    Give one of `path`, `mask` and `image`. White is repainted, and so is what is transparent with `channel: alpha`, as for the
    mask of `LoadImage`. The mask is inverted, thresholded, grown and blurred, in this order.
    """
    from nodegraph_diffusion import masks

    if path is not None:
        pixels, opacity = read_picture(path, run)
        values = 1 - opacity if channel == "alpha" else _channel(pixels, channel)
    elif image is not None:
        values = _channel(image.pixels, channel)
    elif mask is not None:
        values = mask.values
    else:
        raise ValueError("a Mask is made from one of path, mask and image; found none of them; give one")
    values = 1 - values if invert else values
    values = values if threshold is None else (values >= threshold).float()
    values = masks.grow(values, grow, corners) if grow else values
    return Mask(masks.blur(values, blur) if blur else values)


def resize_mask(mask: Mask, size: tuple[int, int], run: Run) -> Mask:
    """The mask at the size (height, width) of a picture, with a notice if the mask has another size."""
    from nodegraph_diffusion import masks

    height, width = mask.values.shape[-2:]
    if (height, width) == tuple(size):
        return mask
    run.notice(f"the mask is {width}x{height} and the picture {size[1]}x{size[0]}: the mask is resized")
    return Mask(masks.resize(mask.values, size))


def mask_for_latent(mask: Mask, latent: Latent, run: Run) -> Tensor:
    """The mask for all pixels that a latent covers, its padding included: (B, 1, H, W)."""
    from nodegraph_diffusion import masks

    return masks.extend(resize_mask(mask, latent.size, run).values, *latent.padding)[:, None]


def _channel(pixels: Tensor, channel: Channel) -> Tensor:
    """One channel of pixels (B, H, W, 3): (B, H, W)."""
    from nodegraph_diffusion import masks

    if channel == "alpha":
        raise ValueError("a picture between nodes has no alpha channel. Give the path, or link the mask of its LoadImage")
    if channel == "luminance":
        return masks.luminance(pixels)
    return pixels[..., ("red", "green", "blue").index(channel)].contiguous()
