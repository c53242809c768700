"""Reads picture files: whole pixels are read, whatever is stored beside them."""

from __future__ import annotations

import contextlib
import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nodegraph import Run
from nodegraph_nodes.pictures.colours import in_srgb, is_deep_grey
from nodegraph_nodes.pictures.side_data import without_side_data

if TYPE_CHECKING:
    from PIL.Image import Image as Picture
    from torch import Tensor

FORMATS: Final = ("PNG", "JPEG", "WEBP", "AVIF", "HEIF", "GIF", "BMP", "TIFF", "PPM")
"""The formats that are read, whatever a file is called. Pillow would try others, too: for EPS it starts Ghostscript.

AVIF and HEIF (HEIC) are read if the installed Pillow can; for HEIF it needs the package pillow-heif.
"""

_MODERN: Final = {b"avif": "AVIF", b"avis": "AVIF", b"heic": "HEIC", b"heix": "HEIC", b"heim": "HEIC", b"heis": "HEIC"}


def read_picture(path: Path, run: Run) -> tuple[Tensor, Tensor]:
    """Pixels (1, H, W, 3) and opacity (1, H, W) of a picture file, float32 in [0, 1], turned upright, in the colours of sRGB.

    Side data that cannot be read is ignored, with a notice. If the file holds several pictures, the first one is returned, with a
    notice. Colours have 8 bits per channel, grey pictures up to 16. Raises ValueError if the file is not a picture, its pixels are
    damaged or incomplete, or it has more than 179 million of them.
    """
    picture = _open(path, run)
    try:
        converted = in_srgb(picture)
    except ValueError:
        run.notice(f"{path.name}: its colour profile cannot be used, so its colours are read as sRGB")
        converted = picture
    return colours_and_opacity(converted, f"the picture {path}")


def colours_and_opacity(picture: Picture, name: str) -> tuple[Tensor, Tensor]:
    """Pixels (1, H, W, 3) and opacity (1, H, W) of a picture, float32 in [0, 1]. Errors call it `name`."""
    import numpy as np
    import torch

    if is_deep_grey(picture):  # when these are converted, libraries keep only the lowest 8 bits
        grey = _grey_values(picture, name)[None]
        transparent = picture.info.get("transparency")
        opacity = torch.ones_like(grey) if transparent is None else (grey != transparent / 65535).float()
        return grey[..., None].expand(-1, -1, -1, 3).contiguous(), opacity
    planes = torch.from_numpy(np.array(picture.convert("RGBA"))).float()[None] / 255  # (1, H, W, 4)
    return planes[..., :3].contiguous(), planes[..., 3].contiguous()


def _open(path: Path, run: Run) -> Picture:
    """The first picture in a file, upright. Raises ValueError as `read_picture` does."""
    from PIL import Image as pillow
    from PIL import UnidentifiedImageError

    _register_formats()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)  # above twice this size, it is an error
            picture = _pixels(path, run)
            several = _has_several(path)
            upright = _upright(picture, path, run)
    except UnidentifiedImageError as error:
        raise ValueError(_unreadable(path)) from error
    except pillow.DecompressionBombError as error:
        raise ValueError(f"the picture {path} is too large ({error}). Scale it down first") from error
    except MemoryError:
        raise
    except Exception as error:  # decoders raise many kinds of errors for damaged files
        raise ValueError(f"the picture {path} cannot be read: {error}. Copy or save it again") from error
    if several:
        run.notice(f"{path.name} holds several pictures: the first one is used")
    return upright


def _register_formats() -> None:
    """Add the formats to Pillow that it does not have from the start."""
    from PIL import AvifImagePlugin, TiffImagePlugin, WebPImagePlugin  # noqa: F401 (these add their formats)
    from PIL import Image as pillow

    pillow.preinit()
    with contextlib.suppress(ImportError):
        import pillow_heif  # type: ignore[import-not-found, unused-ignore]

        pillow_heif.register_heif_opener()


def _pixels(path: Path, run: Run) -> Picture:
    """The decoded first picture of a file; without its side data, and with a notice, if it cannot be read with it."""
    from PIL import Image as pillow

    try:
        return _decoded(path)
    except (pillow.DecompressionBombError, MemoryError, OSError) as error:
        if isinstance(error, pillow.DecompressionBombError | MemoryError) or error.errno is not None:
            raise
        first = error
    except Exception as error:
        first = error  # type: ignore[assignment]
    for data, missing in without_side_data(path.read_bytes()):
        with contextlib.suppress(Exception):
            picture = _decoded(io.BytesIO(data))
            run.notice(f"{path.name}: {missing}")
            return picture
    raise first


def _decoded(file: Path | io.BytesIO) -> Picture:
    from PIL import Image as pillow

    known: Any = [name for name in FORMATS if name in pillow.OPEN]
    with pillow.open(file, formats=known) as picture:
        picture.load()
        return picture


def _has_several(path: Path) -> bool:
    from PIL import Image as pillow

    known: Any = [name for name in FORMATS if name in pillow.OPEN]
    with contextlib.suppress(Exception), pillow.open(path, formats=known) as picture:
        return bool(getattr(picture, "is_animated", False))
    return False


def _upright(picture: Picture, path: Path, run: Run) -> Picture:
    """The picture as its EXIF data says that it was held."""
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # a parser of damaged data raises many kinds of errors
        run.notice(f"{path.name}: its EXIF data cannot be read, so the picture is not turned")
        return picture


def _unreadable(path: Path) -> str:
    """Why a file is not a picture that can be read, and what to do."""
    from PIL import Image as pillow

    with path.open("rb") as file:
        start = file.read(12)
    kind = _MODERN.get(start[8:12]) if start[4:8] == b"ftyp" else None
    if kind is None:
        return f"{path} is not a picture that can be read. Give a PNG, JPEG, WebP, AVIF, HEIC, GIF, BMP, TIFF or PPM file"
    if kind == "HEIC" and "HEIF" not in pillow.OPEN:
        return f"{path} is a HEIC picture, which the installed Pillow cannot read. Install pillow-heif, or save it as PNG or JPEG"
    return f"the {kind} picture {path} is damaged, or the installed Pillow cannot read its kind. Save it as PNG or JPEG"


def _grey_values(picture: Picture, name: str) -> Tensor:
    """The values of a grey picture with 16 bits or with floating-point values from 0 to 1: (H, W), float32 in [0, 1]."""
    import numpy as np
    import torch

    values = torch.from_numpy(np.asarray(picture).astype(np.float32))
    white = 1.0 if picture.mode == "F" else 65535.0
    if not (values.min() >= 0 and values.max() <= white):
        found = f"{values.min():g} to {values.max():g}"
        raise ValueError(f"{name}: expected grey values from 0 to {white:g}, found {found}. Save it as a PNG file")
    return values / white
