"""Which combinations are drawn in training, and which are held out to test whether a model composes.

A combination is a thing (kind, colour), or two things and the relation between them (kind, colour, relation, kind, colour). A
training scene contains no held-out combination. `left` and `above` name the pair; `right` and `below` are the same pair, reversed.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from itertools import combinations

from nodegraph_diffusion.recipes.pictureworld.hashing import hashed
from nodegraph_diffusion.recipes.pictureworld.scene import OPPOSITES, Colour, Kind, Relation, Scene, relation

Pair = tuple[Kind, Colour, Relation, Kind, Colour]

HELD_OUT_THINGS: frozenset[tuple[Kind, Colour]] = frozenset(
    {
        ("house", "pink"),
        ("tree", "blue"),
        ("boat", "green"),
        ("car", "yellow"),
        ("cat", "white"),
        ("balloon", "orange"),
        ("mushroom", "purple"),
        ("castle", "red"),
        ("owl", "black"),
        ("rabbit", "blue"),
        ("flower", "brown"),
        ("rocket", "green"),
    }
)
"""A tenth of the things: each kind once and each colour at least once. The first eight are those of the 64x64 world."""
HELD_OUT_PERCENT = 10


@cache
def is_held_out_pair(pair: Pair) -> bool:
    """Whether a pair is held out: a tenth of all, by hash, and all that contain a held-out thing."""
    kind, colour, direction, other_kind, other_colour = pair
    if direction in ("right", "below"):
        return is_held_out_pair((other_kind, other_colour, OPPOSITES[direction], kind, colour))
    if {(kind, colour), (other_kind, other_colour)} & HELD_OUT_THINGS:
        return True
    return hashed("pair", *pair) % 100 < HELD_OUT_PERCENT


def pairs(scene: Scene) -> Iterator[Pair]:
    """The pairs of things in a scene between which there is a relation."""
    for first, second in combinations(scene.things, 2):
        direction = relation(first.box, second.box)
        if direction:
            yield first.kind, first.colour, direction, second.kind, second.colour


def held_out_things(scene: Scene) -> int:
    """How many of a scene's things are held out."""
    return sum((thing.kind, thing.colour) in HELD_OUT_THINGS for thing in scene.things)


def is_training_scene(scene: Scene) -> bool:
    """Whether a scene has no held-out combination."""
    return not held_out_things(scene) and not any(map(is_held_out_pair, pairs(scene)))
