"""The drawn toy world that the embedded model is trained on: scenes, their pictures and their captions."""

from nodegraph_diffusion.recipes.tiny.world.captions import Request, caption, parse, request
from nodegraph_diffusion.recipes.tiny.world.drawing import draw
from nodegraph_diffusion.recipes.tiny.world.scene import COLOURS, HELD_OUT, KINDS, PLACES, TIMES, Scene, Thing, sample_scene

__all__ = [
    "COLOURS",
    "HELD_OUT",
    "KINDS",
    "PLACES",
    "TIMES",
    "Request",
    "Scene",
    "Thing",
    "caption",
    "draw",
    "parse",
    "request",
    "sample_scene",
]
