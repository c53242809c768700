"""The pictures that our workflows start from: `python -m nodegraph_diffusion.recipes.tiny.examples workflows/examples`."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image, ImageDraw

from nodegraph_diffusion.recipes.tiny.data import SIZE
from nodegraph_diffusion.recipes.tiny.world import Scene, Thing, draw

NIGHT = Scene(
    "meadow",
    "night",
    (Thing("tree", "green", x=0.26, base=0.88, size=0.41), Thing("mushroom", "yellow", x=0.73, base=0.87, size=0.36)),
    horizon=0.56,
    seed=21,
)
"""A night scene for inpainting: the mask covers the mushroom."""
CASTLE = Scene("meadow", "day", (Thing("castle", "blue", x=0.5, base=0.88, size=0.54),), horizon=0.56, seed=4)
"""A castle, for image to image."""
HOLE = (0.50, 0.40, 0.98, 0.94)
"""The mask's white rectangle on the night scene: left, top, right, bottom, from the top left corner, as fractions of the side."""


def write_examples(folder: Path) -> None:
    """Write scene.png with its mask.png, and castle.png."""
    folder.mkdir(parents=True, exist_ok=True)
    mask = Image.new("L", (SIZE, SIZE), 0)
    left, top, right, bottom = (round(SIZE * edge) for edge in HOLE)
    ImageDraw.Draw(mask).rectangle([left, top, right - 1, bottom - 1], fill=255)
    Image.fromarray(draw(NIGHT, SIZE)).save(folder / "scene.png")
    mask.save(folder / "mask.png")
    Image.fromarray(draw(CASTLE, SIZE)).save(folder / "castle.png")


if __name__ == "__main__":
    write_examples(Path(sys.argv[1]))
