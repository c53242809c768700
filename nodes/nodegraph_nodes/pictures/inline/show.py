"""Shows the picture in a file in a terminal."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nodegraph_nodes.pictures.inline import iterm, kitty, sixel

if TYPE_CHECKING:
    from PIL.Image import Image as Picture

    from nodegraph.plugin_api import Terminal

_FORMATS: Final = ("PNG", "JPEG", "WEBP")  # those of outputs
_LARGEST: Final = 64_000_000  # pixels: decoding more takes seconds
_BACKGROUND: Final = "white"  # behind what is transparent

_PROTOCOLS: Final[Mapping[str, Callable[[Picture], str]]] = {
    "kitty": kitty.encode,
    "iterm": iterm.encode,
    "sixel": sixel.encode,
}


def show(path: Path, terminal: Terminal) -> str | None:
    """The text that shows the picture in a file, in the room that the terminal has for it. None if the file is no picture.

    Raises ValueError if the picture is damaged, or has more than 64 million pixels.
    """
    picture = _read(path)
    return None if picture is None else _PROTOCOLS[terminal.protocol](fitted(picture, terminal.width, terminal.height))


def fitted(picture: Picture, width: int, height: int) -> Picture:
    """The picture as large as it fits: a small one enlarged by a whole number, so that it is not blurred, a large one reduced."""
    from PIL import Image as pillow

    factor = min(width // picture.width, height // picture.height)
    if factor >= 1:
        return picture.resize((picture.width * factor, picture.height * factor), pillow.Resampling.NEAREST)
    scale = min(width / picture.width, height / picture.height)
    size = max(1, int(picture.width * scale)), max(1, int(picture.height * scale))
    return picture.resize(size, pillow.Resampling.LANCZOS)


def _read(path: Path) -> Picture | None:
    """The picture in a file, mode RGB."""
    from PIL import Image as pillow
    from PIL import UnidentifiedImageError, WebPImagePlugin  # noqa: F401 (it adds its format)

    pillow.preinit()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", pillow.DecompressionBombWarning)
            with pillow.open(path, formats=_FORMATS) as picture:
                if picture.width * picture.height > _LARGEST:
                    raise ValueError(f"it has {picture.width}x{picture.height} pixels")
                return _opaque(picture)
    except UnidentifiedImageError:
        return None
    except (OSError, SyntaxError, pillow.DecompressionBombError) as error:  # what Pillow raises for damaged files
        raise ValueError(str(error)) from error


def _opaque(picture: Picture) -> Picture:
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    from PIL import Image as pillow

    background = pillow.new("RGBA", picture.size, _BACKGROUND)
    background.alpha_composite(picture.convert("RGBA"))
    return background.convert("RGB")
