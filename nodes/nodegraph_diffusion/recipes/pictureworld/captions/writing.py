"""Writing captions: many phrasings of a scene, from full ones to ones that leave most things open.

    caption = [opening] body {place | time} | {place | time} "," body
    body    = list | list relation list ["and" relation list] | list "between" list | group together | ground
    list    = group {"," group} ["and" group]
    group   = determiner [size] [colour] noun

A writer names things in reading order, unless a relation gives another one; only the relations that it writes are demands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from typing import Literal, TypeVar

from nodegraph_diffusion.recipes.pictureworld.captions import phrases
from nodegraph_diffusion.recipes.pictureworld.hashing import Stream
from nodegraph_diffusion.recipes.pictureworld.scene import Colour, Kind, Relation, Scene, Size, Thing, relation

T = TypeVar("T")

Style = Literal["full", "mixed", "open"]
"""A full caption names every attribute; a mixed one most of them; an open one few."""
SYNONYM_PERCENT = 15


@dataclass(frozen=True)
class Openness:
    """How often, in percent, a caption names an attribute."""

    place: int
    time: int
    colour: int
    size: int
    relation: int


STYLES: dict[Style, Openness] = {
    "full": Openness(place=100, time=100, colour=100, size=100, relation=100),
    "mixed": Openness(place=70, time=70, colour=90, size=50, relation=75),
    "open": Openness(place=20, time=20, colour=35, size=15, relation=35),
}


@dataclass(frozen=True)
class _Named:
    """What a caption says about one thing."""

    kind: Kind
    colour: Colour | None
    size: Size | None


def caption(scene: Scene, number: int = 0, style: Style = "mixed") -> str:
    """The caption of a scene with a number: the same on every machine. Other numbers mean other words and other openness."""
    stream = Stream("caption", style, scene.seed, number)
    openness = STYLES[style]
    place = _phrase(stream, phrases.PLACE_PHRASES[scene.place]) if stream.chance(openness.place) else ""
    time = _phrase(stream, phrases.TIME_PHRASES[scene.time]) if stream.chance(openness.time) else ""
    if not scene.things:
        return _empty(stream, scene, place, time)
    body = _body(stream, scene.things, openness)
    settings = [part for part in ((place, time) if stream.chance(75) else (time, place)) if part]
    if settings and stream.chance(12):
        return f"{' '.join(settings)}, {body}"
    opening = ""
    if stream.chance(20):
        opening = stream.choice(phrases.OPENINGS)
    elif stream.chance(8):
        opening = phrases.THERE[body.startswith(("two ", "three "))]
    return " ".join(part for part in (opening, body, *settings) if part)


def _phrase(stream: Stream, options: Sequence[T]) -> T:
    """One of the options; the first one more often than each of the others."""
    return options[0] if stream.chance(30) else stream.choice(options)


def _word(stream: Stream, options: Sequence[T]) -> T:
    """The usual word, or sometimes a synonym."""
    return stream.choice(options[1:]) if len(options) > 1 and stream.chance(SYNONYM_PERCENT) else options[0]


def _empty(stream: Stream, scene: Scene, place: str, time: str) -> str:
    """A caption of a scene without things."""
    if not place and time:
        return stream.choice(phrases.HOUR_PHRASES[scene.time])
    ground = stream.choice(phrases.GROUND_PHRASES[scene.place])
    opening = stream.choice(phrases.OPENINGS) if stream.chance(20) else ""
    return " ".join(part for part in (opening, ground, time) if part)


def _body(stream: Stream, things: Sequence[Thing], openness: Openness) -> str:
    """The words for things and their arrangement."""
    with_sizes = stream.chance(openness.size)
    named = []
    for thing in things:
        colour = thing.colour if stream.chance(openness.colour) else None
        named.append(_Named(thing.kind, colour, thing.size if with_sizes and stream.chance(max(85, openness.size)) else None))
    if len(things) > 1 and stream.chance(openness.relation):
        body = _related(stream, things, named)
        if body:
            return body
    return _list(stream, named, [])


def _related(stream: Stream, things: Sequence[Thing], named: Sequence[_Named]) -> str:
    """One of the bodies that state how the things are arranged; empty if there is none."""
    table = {(i, j): relation(things[i].box, things[j].box) for i, j in permutations(range(len(things)), 2)}
    if len(set(named)) == 1 and set(table.values()) <= {"left", "right"} and stream.chance(50):
        return f"{_list(stream, named, [])} {stream.choice(phrases.TOGETHER[len(named)])}"
    forms: list[tuple[int | Relation | str, ...]] = []
    if len(things) == 2:
        forms = [(i, r, j) for (i, j), r in table.items() if r]
        beside = [(i, stream.choice(phrases.BESIDE), j) for (i, j), r in table.items() if r in ("left", "right")]
        if beside and stream.chance(20):
            forms = [*beside]
    for i, j, k in permutations(range(len(things)), 3):
        if table[i, j] and table[i, k]:
            if table[i, j] != table[i, k]:
                forms.append((i, str(table[i, j]), j, "and", str(table[i, k]), k))
            elif j < k:
                forms.append((i, str(table[i, j]), j, k))
        if i < j and table[i, k] and table[i, k] == table[j, k]:
            forms.append((i, j, str(table[i, k]), k))
        if (table[i, j], table[i, k]) in (("left", "right"), ("right", "left")) and stream.chance(50):
            forms.append((i, phrases.BETWEEN, j, k))
    return _written(stream, stream.choice(forms), named) if forms else ""


def _written(stream: Stream, form: Sequence[int | str], named: Sequence[_Named]) -> str:
    """The words of a form: numbers of things, which are listed, and words between the lists."""
    parts: list[str] = []
    written: list[_Named] = []
    pending: list[_Named] = []
    for item in (*form, ""):
        if isinstance(item, int):
            pending.append(named[item])
            continue
        if pending:
            parts.append(_list(stream, pending, written))
            written += pending
            pending = []
        parts.append(_phrase(stream, _RELATION_WORDS[item]) if item in _RELATION_WORDS else item)
    return " ".join(part for part in parts if part)


_RELATION_WORDS: dict[str, tuple[str, ...]] = {str(word): options for word, options in phrases.RELATION_PHRASES.items()}


def _list(stream: Stream, named: Sequence[_Named], earlier: Sequence[_Named]) -> str:
    """Things as a list, in which equal ones are counted. A thing like one in an earlier list is "another"."""
    groups = [(each, named.count(each)) for each in dict.fromkeys(named)]
    texts = [_group(stream, each, count, another=each in earlier) for each, count in groups]
    if len(texts) < 3:
        return " and ".join(texts)
    comma = "," if stream.chance(25) else ""
    return f"{', '.join(texts[:-1])}{comma} and {texts[-1]}"


def _group(stream: Stream, named: _Named, count: int, *, another: bool) -> str:
    """A determiner, adjectives and a noun, in the singular or the plural."""
    size = _phrase(stream, phrases.SIZE_WORDS[named.size]) if named.size else ""
    colour = _word(stream, phrases.COLOUR_WORDS[named.colour]) if named.colour else ""
    singular, plural = _word(stream, phrases.NOUNS[named.kind])
    rest = " ".join(part for part in (size, colour, singular if count == 1 else plural) if part)
    if count > 1:
        return f"{_word(stream, phrases.COUNT_WORDS[count])} {rest}"
    if another:
        return f"another {rest}"
    return f"{'an' if rest[0] in 'aeiou' else 'a'} {rest}"
