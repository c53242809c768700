"""Contact sheets of the picture world."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.pictureworld.drawing.picture import SIDE, draw
from nodegraph_diffusion.recipes.pictureworld.scene import Scene


def contact_sheet(scenes: Sequence[Scene], columns: int, side: int = SIDE) -> NDArray[np.uint8]:
    """The pictures of scenes in rows of `columns`, (rows * side, columns * side, 3); free places are white."""
    rows = -(-len(scenes) // columns)
    sheet = np.full((rows * side, columns * side, 3), 255, np.uint8)
    for number, scene in enumerate(scenes):
        row, column = divmod(number, columns)
        sheet[row * side : (row + 1) * side, column * side : (column + 1) * side] = draw(scene, side)
    return sheet
