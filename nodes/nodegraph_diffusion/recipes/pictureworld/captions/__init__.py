"""Captions of scenes: written in many phrasings, and read back as what they demand of a picture."""

from nodegraph_diffusion.recipes.pictureworld.captions.demands import (
    Demands,
    Fault,
    Group,
    Link,
    Reading,
    Seen,
    demands_of,
    faults,
    reading_of,
)
from nodegraph_diffusion.recipes.pictureworld.captions.phrases import words
from nodegraph_diffusion.recipes.pictureworld.captions.reading import parse
from nodegraph_diffusion.recipes.pictureworld.captions.writing import Style, caption

__all__ = [
    "Demands",
    "Fault",
    "Group",
    "Link",
    "Reading",
    "Seen",
    "Style",
    "caption",
    "demands_of",
    "faults",
    "parse",
    "reading_of",
    "words",
]
