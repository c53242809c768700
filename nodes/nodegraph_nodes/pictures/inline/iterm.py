"""Pictures of iTerm2, which WezTerm and others have, too (https://iterm2.com/documentation-images.html)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from nodegraph_nodes.pictures.inline.png import as_png

if TYPE_CHECKING:
    from PIL.Image import Image as Picture


def encode(picture: Picture) -> str:
    """The text that shows a picture pixel by pixel where the cursor is."""
    data = as_png(picture)
    size = f"size={len(data)};width={picture.width}px;height={picture.height}px"
    return f"\x1b]1337;File=inline=1;{size}:{base64.b64encode(data).decode()}\a"
