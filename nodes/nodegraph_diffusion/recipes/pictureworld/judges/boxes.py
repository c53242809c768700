"""How well the things in a picture are where they should be: the overlap of boxes."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

from nodegraph_diffusion.recipes.pictureworld.annotations import LabelledBox


def overlap(first: LabelledBox, second: LabelledBox) -> float:
    """Intersection over union of two boxes: 1 for equal ones, 0 for ones apart."""
    wide = min(first.right, second.right) - max(first.left, second.left)
    tall = min(first.bottom, second.bottom) - max(first.top, second.top)
    shared = max(wide, 0.0) * max(tall, 0.0)
    areas = [(box.right - box.left) * (box.bottom - box.top) for box in (first, second)]
    return shared / (sum(areas) - shared) if shared else 0.0


def overlaps(demanded: Sequence[LabelledBox], found: Sequence[LabelledBox]) -> list[float]:
    """The overlap of each demanded box with a found one of the same label, in the best assignment; 0 if there is none left."""
    candidates: Sequence[LabelledBox | None] = [*found, *[None] * len(demanded)]
    best: list[float] = [0.0] * len(demanded)
    for chosen in permutations(candidates, len(demanded)):
        values = [
            overlap(box, other) if other is not None and other.label == box.label else 0.0
            for box, other in zip(demanded, chosen, strict=True)
        ]
        best = max(best, values, key=sum)
    return best
