"""The picture world: drawn scenes for training at any size, with captions, maps and boxes, and judges of painted pictures.

`scene(seed, index)` is what a picture shows, `draw(scene)` the picture, `caption(scene)` a text for it. All three are the same on
every machine.
"""

from nodegraph_diffusion.recipes.pictureworld.annotations import LabelledBox, class_label, downscaled, layout
from nodegraph_diffusion.recipes.pictureworld.captions import (
    Demands,
    Reading,
    caption,
    demands_of,
    faults,
    parse,
    reading_of,
    words,
)
from nodegraph_diffusion.recipes.pictureworld.drawing.picture import CLASSES, draw, draw_with_map
from nodegraph_diffusion.recipes.pictureworld.sampling import scene
from nodegraph_diffusion.recipes.pictureworld.scene import COLOURS, KINDS, PLACES, SIZES, TIMES, Box, Scene, Thing

__all__ = [
    "CLASSES",
    "COLOURS",
    "KINDS",
    "PLACES",
    "SIZES",
    "TIMES",
    "Box",
    "Demands",
    "LabelledBox",
    "Reading",
    "Scene",
    "Thing",
    "caption",
    "class_label",
    "demands_of",
    "downscaled",
    "draw",
    "draw_with_map",
    "faults",
    "layout",
    "parse",
    "reading_of",
    "scene",
    "words",
]
