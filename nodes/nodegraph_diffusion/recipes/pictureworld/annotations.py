"""What other systems than text-to-image learn from a scene: class labels, boxes, maps of classes, smaller pictures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.pictureworld.scene import KINDS, UNIT, Scene


@dataclass(frozen=True)
class LabelledBox:
    """A thing's class, an index into KINDS, and the edges of its box as fractions of the side, from the top left corner."""

    label: int
    left: float
    top: float
    right: float
    bottom: float


def class_label(scene: Scene) -> int:
    """The class of a scene with one thing, an index into KINDS. Raises ValueError for other scenes."""
    if len(scene.things) != 1:
        raise ValueError(
            f"a scene with {len(scene.things)} things has no class label; expected one with 1 thing, scene(..., count=1)"
        )
    return KINDS.index(scene.things[0].kind)


def layout(scene: Scene) -> list[LabelledBox]:
    """The boxes of a scene's things, in reading order, without their outlines."""
    boxes = [(KINDS.index(thing.kind), thing.box) for thing in scene.things]
    return [
        LabelledBox(label=label, left=box.left / UNIT, top=box.top / UNIT, right=box.right / UNIT, bottom=box.bottom / UNIT)
        for label, box in boxes
    ]


def downscaled(picture: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """A picture (H, W, 3), 8-bit, reduced by an integer factor: the rounded mean of each block. H and W are multiples of it."""
    height, width, channels = picture.shape
    if height % factor or width % factor:
        raise ValueError(f"a picture of {width}x{height} cannot be reduced by {factor}; expected a size that is a multiple of it")
    blocks = picture.reshape(height // factor, factor, width // factor, factor, channels)
    total = blocks.sum((1, 3), dtype=np.int64)
    means: NDArray[np.uint8] = ((2 * total + factor * factor) // (2 * factor * factor)).astype(np.uint8)
    return means
