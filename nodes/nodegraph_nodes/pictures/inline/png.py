"""PNG files that are sent to terminals."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def as_png(picture: Picture) -> bytes:
    """A PNG file with the picture; little compressed, because it is not kept."""
    file = io.BytesIO()
    picture.save(file, format="PNG", compress_level=1)
    return file.getvalue()
