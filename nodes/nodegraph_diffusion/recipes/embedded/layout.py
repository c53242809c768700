"""Where things are, on the grid of a latent or of a feature map: weights for the loss, and what each cell shows."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from nodegraph_diffusion.recipes.pictureworld import COLOURS, KINDS
from nodegraph_diffusion.recipes.pictureworld.scene import UNIT, Box, Scene

CLASSES = (len(KINDS) + 1, len(COLOURS) + 1)
"""The kind and the colour of the thing in a cell; 0: no thing is there."""
THING_WEIGHT = 2.0
"""The weight of the loss inside a thing's box; the surroundings, which are easy, have 1."""


def boxes(scene: Scene, cells: int) -> Iterator[tuple[Box, slice, slice]]:
    """The box of each thing, and the rows and columns of all cells that it touches."""
    for thing in scene.things:
        box = thing.box
        top, left = max(0, box.top * cells // UNIT), max(0, box.left * cells // UNIT)
        yield box, slice(top, -(-box.bottom * cells // UNIT)), slice(left, -(-box.right * cells // UNIT))


def thing_weights(scene: Scene, cells: int) -> Tensor:
    """The weight of each cell of a latent, (cells, cells): THING_WEIGHT in the box of a thing, 1 elsewhere."""
    weights = torch.ones(cells, cells)
    for _, rows, columns in boxes(scene, cells):
        weights[rows, columns] = THING_WEIGHT
    return weights


def cell_classes(scene: Scene, cells: int) -> Tensor:
    """What each cell shows, (2, cells, cells) int64: one of CLASSES, from the thing whose box has the cell's centre."""
    classes = torch.zeros(2, cells, cells, dtype=torch.int64)
    centres = (2 * torch.arange(cells) + 1) * UNIT  # in 1 / (2 cells) of a unit
    for thing, (box, _, _) in zip(scene.things, boxes(scene, cells), strict=True):
        rows = (box.top * 2 * cells <= centres) & (centres < box.bottom * 2 * cells)
        columns = (box.left * 2 * cells <= centres) & (centres < box.right * 2 * cells)
        numbers = torch.tensor([KINDS.index(thing.kind) + 1, COLOURS.index(thing.colour) + 1])
        classes[:, rows[:, None] & columns[None, :]] = numbers[:, None]
    return classes
