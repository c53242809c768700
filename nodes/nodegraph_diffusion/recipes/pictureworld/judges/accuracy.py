"""How reliable a judge is: what it reads right in drawn pictures, and which wrong captions it rejects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.pictureworld.captions import Demands, Fault, Link, Reading, demands_of, faults, reading_of
from nodegraph_diffusion.recipes.pictureworld.hashing import Stream
from nodegraph_diffusion.recipes.pictureworld.judges.distortions import distorted
from nodegraph_diffusion.recipes.pictureworld.sampling import Combinations, scene
from nodegraph_diffusion.recipes.pictureworld.scene import COLOURS, KINDS, PLACES, SIZES, TIMES, Scene
from nodegraph_diffusion.recipes.pictureworld.sheet import drawn

Judge = Callable[[NDArray[np.uint8]], list[Reading]]
"""Reads pictures (B, H, H, 3), 8-bit, without their captions."""

SEED = 1 << 21
"""The seed of the scenes that judges are measured on: no other part of the project draws these."""
ATTRIBUTES: tuple[Fault, ...] = ("count", "kind", "colour", "size", "relation", "place", "time")


@dataclass(frozen=True)
class Accuracy:
    """How many of `total` pictures are read right in every attribute, and in how many each attribute is wrong."""

    right: int
    total: int
    wrong: Counter[Fault]

    def __str__(self) -> str:
        details = ", ".join(f"{name} {self.wrong[name]}" for name in ATTRIBUTES if self.wrong[name])
        return f"{self.right} of {self.total}" + (f" (wrong: {details})" if details else "")


@dataclass(frozen=True)
class Rejections:
    """How many wrong captions a judge rejects: captions of other scenes, and captions with one changed attribute."""

    of_other_scenes: int
    of_changed: dict[Fault, tuple[int, int]]
    total: int

    def __str__(self) -> str:
        changed = ", ".join(f"{name} {rejected} of {asked}" for name, (rejected, asked) in self.of_changed.items())
        return f"captions of other scenes: {self.of_other_scenes} of {self.total}; one attribute changed: {changed}"


def judged_scenes(count: int, combinations: Combinations = "held-out") -> list[Scene]:
    """The first scenes that judges are measured on."""
    return [scene(SEED, index, combinations=combinations) for index in range(count)]


def compared(readings: Sequence[Reading], scenes: Sequence[Scene]) -> Accuracy:
    """The accuracy of a judge's readings."""
    verdicts = [faults(demands_of(each), reading) for each, reading in zip(scenes, readings, strict=True)]
    return Accuracy(
        sum(not verdict for verdict in verdicts), len(verdicts), Counter(name for verdict in verdicts for name in verdict)
    )


def accuracy(judge: Judge, scenes: Sequence[Scene], distortion: str = "as drawn") -> Accuracy:
    """The accuracy of a judge on drawn pictures after one of `distortions.DISTORTIONS`."""
    return compared(judge(distorted(drawn(scenes), distortion)), scenes)


def rejections(readings: Sequence[Reading], scenes: Sequence[Scene]) -> Rejections:
    """Compare each reading with the caption of the next scene that is a different one, and with changed captions."""
    others = 0
    counts: dict[Fault, tuple[int, int]] = dict.fromkeys(ATTRIBUTES, (0, 0))
    for number, (reading, each) in enumerate(zip(readings, scenes, strict=True)):
        following = (scenes[(number + step) % len(scenes)] for step in range(1, len(scenes)))
        other = next(demands_of(found) for found in following if faults(demands_of(found), reading_of(each)))
        others += bool(faults(other, reading))
        for name in ATTRIBUTES:
            wrong = changed(demands_of(each), name, Stream("changed", each.seed, name))
            if wrong is not None and faults(wrong, reading_of(each)):
                rejected, asked = counts[name]
                counts[name] = rejected + bool(faults(wrong, reading)), asked + 1
    return Rejections(others, counts, len(scenes))


def changed(demands: Demands, name: Fault, stream: Stream) -> Demands | None:
    """The demands with one attribute changed; None if they have no such attribute."""
    if name == "place":
        return replace(demands, place=stream.choice([place for place in PLACES if place != demands.place]))
    if name == "time":
        return replace(demands, time=stream.choice([time for time in TIMES if time != demands.time]))
    if name == "relation":
        return _turned(demands, stream)
    if not demands.groups:
        return None
    number = stream.below(len(demands.groups))
    group = demands.groups[number]
    if name == "count":
        return replace(demands, groups=(*demands.groups, group))
    if name == "kind":
        group = replace(group, kind=stream.choice([kind for kind in KINDS if kind != group.kind]))
    elif name == "colour":
        group = replace(group, colour=stream.choice([colour for colour in COLOURS if colour != group.colour]))
    else:
        group = replace(group, size=stream.choice([size for size in SIZES if size != group.size]))
    return replace(demands, groups=(*demands.groups[:number], group, *demands.groups[number + 1 :]))


def _turned(demands: Demands, stream: Stream) -> Demands | None:
    """The demands with the things of one link exchanged."""
    if not demands.links:
        return None
    number = stream.below(len(demands.links))
    link = demands.links[number]
    turned = Link(link.word, link.objects, link.subjects)
    return replace(demands, links=(*demands.links[:number], turned, *demands.links[number + 1 :]))
