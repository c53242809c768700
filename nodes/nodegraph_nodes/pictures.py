"""Picture files as numbers."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from nodegraph import Run

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor


def read_picture(path: Path, run: Run) -> tuple[Tensor, Tensor]:
    """Pixels (1, H, W, 3) and opacity (1, H, W) of a picture file, float32 in [0, 1], turned as its camera was held.

    Of a file that holds several pictures the first, with a notice. Raises ValueError where `path` is no picture, a damaged one,
    or one of more than 179 million pixels.
    """
    import numpy as np
    import torch

    picture = _opened(path, run)
    if picture.mode == "F" or picture.mode.startswith("I"):  # of these, libraries keep only the lowest 8 bits
        grey = _deep(picture, path)[None]
        clear = picture.info.get("transparency")
        opacity = torch.ones_like(grey) if clear is None else (grey != clear / 65535).float()
        return grey[..., None].expand(-1, -1, -1, 3).contiguous(), opacity
    planes = torch.from_numpy(np.array(picture.convert("RGBA"))).float()[None] / 255  # (1, H, W, 4)
    return planes[..., :3].contiguous(), planes[..., 3].contiguous()


def _opened(path: Path, run: Run) -> Picture:
    from PIL import Image as pillow
    from PIL import ImageOps, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # twice that size is refused
            with pillow.open(path) as picture:
                several = getattr(picture, "is_animated", False)
                picture.load()
                turned = ImageOps.exif_transpose(picture)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not a picture that can be read. Give a PNG, JPEG or WebP file") from error
    except pillow.DecompressionBombError as error:
        raise ValueError(f"the picture {path} is too large ({error}). Scale it down first") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise ValueError(f"the picture {path} cannot be read: {error}. Copy or save it again") from error
    if several:
        run.notice(f"{path.name} holds several pictures: the first is taken")
    return turned


def _deep(picture: Picture, path: Path) -> Tensor:
    """A grey picture of 16 bits, or of floating-point values from 0 to 1, (H, W) float32."""
    import numpy as np
    import torch

    values = torch.from_numpy(np.asarray(picture).astype(np.float32))
    white = 1.0 if picture.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= white):
        found = f"{values.min():g} to {values.max():g}"
        raise ValueError(f"the picture {path}: expected grey values from 0 to {white:g}, found {found}. Save it as a PNG file")
    return values / white
