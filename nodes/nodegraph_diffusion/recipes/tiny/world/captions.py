"""Captions of scenes: a grammar that a program can both write and read.

    caption  = [opening] things {place | time} | [opening] ground {time}
    things   = thing [relation thing]
    thing    = [article] [colour] kind

Every attribute is optional. With the relations "and" and "beside", the left thing comes first.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from nodegraph_diffusion.recipes.tiny.world.scene import COLOURS, KINDS, Colour, Kind, Place, Scene, Time

T = TypeVar("T", bound=str)

OPENINGS = ("", "", "", "", "", "a picture of ", "a drawing of ")
RIGHTWARD = (" left of ", " left of ", " to the left of ", " and ", " and ", " beside ", " next to ")
LEFTWARD = (" right of ", " right of ", " to the right of ")
PLACE_PHRASES: dict[Place, tuple[str, ...]] = {
    "meadow": (" in a meadow", " on a meadow", " in the meadow"),
    "beach": (" on a beach", " on the beach", " at the beach"),
    "snow": (" in the snow", " in snow", " in a snowy field"),
    "desert": (" in the desert", " in a desert"),
}
GROUND_PHRASES: dict[Place, tuple[str, ...]] = {
    "meadow": ("a meadow", "an empty meadow"),
    "beach": ("a beach", "an empty beach"),
    "snow": ("a snowy field", "snow", "an empty snowy field"),
    "desert": ("a desert", "an empty desert"),
}
TIME_PHRASES: dict[Time, tuple[str, ...]] = {
    "day": (" by day", " during the day", " under a day sky", " in daylight"),
    "sunset": (" at sunset", " at sunset", " under a sunset sky"),
    "night": (" at night", " at night", " under a night sky", " under the stars"),
}


@dataclass(frozen=True)
class Request:
    """What a caption asks for; an attribute that it leaves open is None. `things` are from left to right."""

    things: tuple[tuple[Kind, Colour | None], ...]
    place: Place | None = None
    time: Time | None = None


def request(scene: Scene) -> Request:
    """Everything that can be asked for in a scene."""
    return Request(tuple((thing.kind, thing.colour) for thing in scene.things), scene.place, scene.time)


def caption(scene: Scene, random: Random, *, keep: float = 0.75, colours: float = 0.94) -> str:
    """A caption of a scene in random words; it names place and time with probability `keep`, a colour with `colours`."""
    place = random.choice(PLACE_PHRASES[scene.place]) if random.random() < keep else ""
    time = random.choice(TIME_PHRASES[scene.time]) if random.random() < keep else ""
    opening = random.choice(OPENINGS)
    if not scene.things:
        return opening + random.choice(GROUND_PHRASES[scene.place]) + time
    left, *others = (_thing(t.kind, t.colour if random.random() < colours else None, random) for t in scene.things)
    words = left
    for right in others:
        rightward = random.random() < 0.65
        words = words + random.choice(RIGHTWARD) + right if rightward else right + random.choice(LEFTWARD) + words
    ending = place + time if random.random() < 0.7 else time + place
    return opening + words + ending


def _thing(kind: Kind, colour: Colour | None, random: Random) -> str:
    words = f"{colour} {kind}" if colour else kind
    return words if random.random() < 0.08 else f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def parse(text: str) -> Request:
    """What a caption asks for. Raises ValueError, with the words, if the grammar does not have it."""
    remaining = f" {' '.join(text.lower().replace(',', ' ').split())}"
    remaining, place = _take(remaining, PLACE_PHRASES)
    remaining, time = _take(remaining, TIME_PHRASES)
    for opening in OPENINGS:
        remaining = remaining.removeprefix(f" {opening}".rstrip() if opening else "")
    for ground, phrases in GROUND_PHRASES.items():
        if remaining.strip() in phrases:
            return Request((), ground, time)
    for relation in (*RIGHTWARD, *LEFTWARD):
        left, found, right = remaining.partition(relation)
        if found and not left.endswith(" to the"):
            pair = (_read_thing(left, text), _read_thing(right, text))
            return Request(pair if relation in RIGHTWARD else pair[::-1], place, time)
    return Request((_read_thing(remaining, text),), place, time)


def _take(text: str, phrases: Mapping[T, tuple[str, ...]]) -> tuple[str, T | None]:
    """Remove the longest of the phrases from the text: (remaining text, key of the phrase)."""
    found = [(len(phrase), phrase, key) for key, options in phrases.items() for phrase in options if f"{phrase} " in f"{text} "]
    if not found:
        return text, None
    _, phrase, key = max(found, key=lambda entry: entry[0])
    return f"{text} ".replace(f"{phrase} ", " ", 1).rstrip(), key


def _read_thing(words: str, text: str) -> tuple[Kind, Colour | None]:
    parts = [word for word in words.split() if word not in ("a", "an", "the")]
    kind = next((k for k in KINDS if parts and parts[-1] == k), None)
    colour = next((c for c in COLOURS if len(parts) == 2 and parts[0] == c), None)
    if kind is None or len(parts) != (2 if colour else 1):
        raise ValueError(f"{words.strip()!r} in caption {text!r} is not a thing of the world; expected '[colour] kind'")
    return kind, colour
