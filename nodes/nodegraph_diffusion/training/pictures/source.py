"""Pictures with captions, before they are encoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.training.pictures.buckets import Fit, Size


class CaptionedPicture(Protocol):
    """A picture with a caption. `digest` depends on the picture's content alone, and differs for other contents."""

    @property
    def caption(self) -> str: ...

    @property
    def digest(self) -> str: ...

    @property
    def size(self) -> Size: ...

    def pixels(self) -> Tensor:
        """(3, H, W) float32 in [-1, 1]."""
        ...


@dataclass(frozen=True)
class PictureFile:
    """A picture file, turned as its EXIF data says, without transparency. It is read when it is needed."""

    path: Path
    caption: str = ""

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the file."""
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    @cached_property
    def size(self) -> Size:
        """Height and width as the picture is shown."""
        from PIL import Image

        with Image.open(self.path) as picture:
            width, height = picture.size
            turned = picture.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (width, height) if turned else (height, width)

    def pixels(self) -> Tensor:
        """(3, H, W) float32 in [-1, 1]. What is transparent is white."""
        import numpy as np
        from PIL import Image, ImageOps

        with Image.open(self.path) as picture:
            upright = ImageOps.exif_transpose(picture)
            if upright.mode in ("RGBA", "LA", "PA") or "transparency" in upright.info:
                white = Image.new("RGBA", upright.size, "white")
                upright = Image.alpha_composite(white, upright.convert("RGBA"))
            values = np.array(upright.convert("RGB"), dtype=np.float32)
        return torch.from_numpy(values).permute(2, 0, 1) / 127.5 - 1


@dataclass(frozen=True, eq=False)
class PictureTensor:
    """A picture in memory: (3, H, W) in [-1, 1]."""

    values: Tensor = field(repr=False)
    caption: str = ""

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of its numbers and their shape."""
        values = self.values.detach().to("cpu", torch.float32).contiguous()
        hashed = hashlib.sha256(f"float32 {tuple(values.shape)}".encode())
        hashed.update(values.reshape(-1).view(torch.uint8).numpy().data)
        return hashed.hexdigest()

    @property
    def size(self) -> Size:
        """Height and width."""
        return int(self.values.shape[1]), int(self.values.shape[2])

    def pixels(self) -> Tensor:
        """The picture."""
        return self.values.float()


def fitted(pixels: Tensor, how: Fit, mirrored: bool = False) -> Tensor:
    """A picture (3, H, W) resized, cut, and perhaps mirrored: (3, *size). Resizing is bicubic, with antialiasing."""
    if tuple(pixels.shape[1:]) != how.resized:
        pixels = F.interpolate(pixels[None], how.resized, mode="bicubic", antialias=True)[0].clamp(-1, 1)
    height, width = how.size
    cut = pixels[:, how.top : how.top + height, how.left : how.left + width]
    return cut.flip(2) if mirrored else cut
