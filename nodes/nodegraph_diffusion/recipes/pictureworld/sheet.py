"""Pictures of many scenes: a batch of them, or a contact sheet."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.pictureworld.drawing.picture import SIDE, draw
from nodegraph_diffusion.recipes.pictureworld.scene import Scene


def drawn(scenes: Sequence[Scene], side: int = SIDE) -> NDArray[np.uint8]:
    """The pictures of scenes, (B, side, side, 3)."""
    return np.stack([draw(scene, side) for scene in scenes])


def contact_sheet(scenes: Sequence[Scene], columns: int, side: int = SIDE) -> NDArray[np.uint8]:
    """The pictures of scenes in rows of `columns`, (rows * side, columns * side, 3); free places are white."""
    rows = -(-len(scenes) // columns)
    cells = np.full((rows * columns, side, side, 3), 255, np.uint8)
    cells[: len(scenes)] = drawn(scenes, side)
    return cells.reshape(rows, columns, side, side, 3).swapaxes(1, 2).reshape(rows * side, columns * side, 3)
