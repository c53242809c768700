"""Nodes that read and join pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from nodegraph import File, Run, node
from nodegraph_nodes.types import Image, Mask

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor


class Loaded(NamedTuple):
    """A picture, and what is transparent in it."""

    image: Image
    mask: Mask


def open_picture(path: Path) -> Picture:
    """A picture file, turned as its camera was held. Raises ValueError where `path` is none, or a damaged one."""
    from PIL import Image as pillow
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with pillow.open(path) as picture:
            picture.load()
            return ImageOps.exif_transpose(picture)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is no picture that can be read; PNG, JPEG and WebP are") from error
    except (OSError, SyntaxError, pillow.DecompressionBombError) as error:
        raise ValueError(f"the picture {path} cannot be read: {error}. Save it anew") from error


def channel(picture: Picture, name: str) -> Tensor:
    """One channel of a picture, (1, H, W) float32 in [0, 1]; alpha is 1 where the picture has none."""
    import numpy as np
    import torch

    if picture.mode.startswith("I;16") or picture.mode == "I":  # 16 bits of grey
        deep = torch.from_numpy(np.asarray(picture).astype(np.float32) / 65535).clamp(0, 1)[None]
        return torch.ones_like(deep) if name == "alpha" else deep
    has_alpha = "A" in picture.getbands() or "transparency" in picture.info
    if name == "alpha" and not has_alpha:
        return torch.ones(1, picture.height, picture.width)
    plane = picture.convert("RGB").convert("L") if name == "luminance" else picture.convert("RGBA").getchannel(name[0].upper())
    return torch.from_numpy(np.array(plane, dtype=np.float32) / 255)[None]


@node("LoadImage")
def load_image(path: File) -> Loaded:
    """Read a picture. `mask` is white where it is transparent: what is to be repainted."""
    import torch

    picture = open_picture(path)
    colours = [channel(picture, name) for name in ("red", "green", "blue")]
    if picture.mode in ("I", "I;16"):
        colours = [channel(picture, "luminance")] * 3
    return Loaded(Image(torch.stack(colours, dim=-1)), Mask(1 - channel(picture, "alpha")))


@node("Composite")
def composite(image: Image, original: Image, mask: Mask, run: Run = Run()) -> Image:  # noqa: B008 - has no state
    """`image` where the mask is white, `original` where it is black: there its pixels stay untouched, to the last bit."""
    import torch

    from nodegraph_nodes.mask import resized

    if image.pixels.shape[1:] != original.pixels.shape[1:]:
        found = " and ".join(f"{p.shape[2]}x{p.shape[1]}" for p in (image.pixels, original.pixels))
        raise ValueError(f"expected two pictures of one size, found {found}; decode the latent that the original was encoded to")
    height, width = original.pixels.shape[1:3]
    amount = resized(mask, (height, width), run).values[..., None]  # (B, H, W, 1)
    mixed = original.pixels + (image.pixels - original.pixels) * amount
    return Image(torch.where(amount == 0, original.pixels, mixed))
