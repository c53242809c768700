"""What a caption demands, what a picture shows, and in which attributes the two differ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import KW_ONLY, dataclass
from itertools import permutations
from typing import Literal

from nodegraph_diffusion.recipes.pictureworld.scene import Colour, Kind, Place, Scene, Size, Time, relation

LinkWord = Literal["left", "above", "beside", "between"]
Fault = Literal["count", "kind", "colour", "size", "relation", "place", "time"]

LEAST_DISTANCE = 60
"""How far apart two centres must be for a relation to hold, in units of a scene."""


@dataclass(frozen=True)
class Group:
    """`count` things of one kind; what the caption leaves open is None."""

    kind: Kind
    colour: Colour | None = None
    size: Size | None = None
    count: int = 1


@dataclass(frozen=True)
class Link:
    """Each thing of the groups `subjects` is `word` of (or beside, or between) the things of the groups `objects`.

    A link of a group with itself relates its members: "two trees side by side".
    """

    word: LinkWord
    subjects: tuple[int, ...]
    objects: tuple[int, ...]


@dataclass(frozen=True)
class Demands:
    """All that a caption asks for: exactly these things, and what it says about their arrangement, the place and the time."""

    groups: tuple[Group, ...] = ()
    links: tuple[Link, ...] = ()
    place: Place | None = None
    time: Time | None = None


@dataclass(frozen=True)
class Seen:
    """A thing in a picture, with the centre of its box in units of a scene."""

    kind: Kind
    colour: Colour
    size: Size
    _: KW_ONLY
    x: int
    y: int


@dataclass(frozen=True)
class Reading:
    """What a picture shows."""

    things: tuple[Seen, ...]
    place: Place
    time: Time


def reading_of(scene: Scene) -> Reading:
    """What the picture of a scene shows."""
    boxes = [thing.box for thing in scene.things]
    things = tuple(
        Seen(thing.kind, thing.colour, thing.size, x=(box.left + box.right) // 2, y=(box.top + box.bottom) // 2)
        for thing, box in zip(scene.things, boxes, strict=True)
    )
    return Reading(things, scene.place, scene.time)


def demands_of(scene: Scene) -> Demands:
    """Everything that can be demanded of a scene's picture."""
    groups = tuple(Group(thing.kind, thing.colour, thing.size) for thing in scene.things)
    links = []
    for i, j in permutations(range(len(groups)), 2):
        direction = relation(scene.things[i].box, scene.things[j].box)
        if direction in ("left", "above"):
            links.append(Link(direction, (i,), (j,)))
    return Demands(groups, tuple(links), scene.place, scene.time)


def faults(demands: Demands, reading: Reading) -> list[Fault]:
    """The attributes in which a picture differs from what a caption demands, in the fairest assignment of its things.

    With another number of things than demanded, their attributes are not compared.
    """
    wrong: list[Fault] = []
    if demands.place not in (None, reading.place):
        wrong.append("place")
    if demands.time not in (None, reading.time):
        wrong.append("time")
    owners = [number for number, group in enumerate(demands.groups) for _ in range(group.count)]
    if len(owners) != len(reading.things):
        return [*wrong, "count"]
    candidates = (_thing_faults(demands, owners, order) for order in permutations(reading.things))
    return wrong + min(candidates, key=lambda names: (len(names), "kind" in names, names))


def _thing_faults(demands: Demands, owners: Sequence[int], things: Sequence[Seen]) -> list[Fault]:
    """The faults if things[i] is a member of the group owners[i]."""
    pairs = [(demands.groups[owner], thing) for owner, thing in zip(owners, things, strict=True)]
    wrong: list[Fault] = []
    if any(group.kind != thing.kind for group, thing in pairs):
        wrong.append("kind")
    if any(group.colour not in (None, thing.colour) for group, thing in pairs):
        wrong.append("colour")
    if any(group.size not in (None, thing.size) for group, thing in pairs):
        wrong.append("size")
    members: list[list[Seen]] = [[] for _ in demands.groups]
    for owner, thing in zip(owners, things, strict=True):
        members[owner].append(thing)
    if not all(_holds(link, members) for link in demands.links):
        wrong.append("relation")
    return wrong


def _holds(link: Link, members: Sequence[Sequence[Seen]]) -> bool:
    subjects = [thing for group in link.subjects for thing in members[group]]
    objects = [thing for group in link.objects for thing in members[group]]
    if link.word == "between":
        return len(objects) == 2 and all(_between(thing, *objects) for thing in subjects)
    return all(_related(link.word, first, second) for first, second in _different(subjects, objects))


def _different(subjects: Sequence[Seen], objects: Sequence[Seen]) -> Iterator[tuple[Seen, Seen]]:
    return ((first, second) for first in subjects for second in objects if first is not second)


def _related(word: LinkWord, first: Seen, second: Seen) -> bool:
    """Whether a relation holds between two centres, at up to 45 degrees."""
    dx, dy = second.x - first.x, second.y - first.y
    if word == "above":
        return dy >= LEAST_DISTANCE and abs(dx) <= dy
    if word == "left":
        return dx >= LEAST_DISTANCE and abs(dy) <= dx
    return abs(dx) >= LEAST_DISTANCE and abs(dy) <= abs(dx)


def _between(thing: Seen, first: Seen, second: Seen) -> bool:
    left, right = sorted((first, second), key=lambda each: each.x)
    return _related("left", left, thing) and _related("left", thing, right)
