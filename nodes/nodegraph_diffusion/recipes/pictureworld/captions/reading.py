"""Reading captions: what a text of the grammar demands of a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import TypeVar

from nodegraph_diffusion.recipes.pictureworld.captions import phrases
from nodegraph_diffusion.recipes.pictureworld.captions.demands import Demands, Group, Link, LinkWord
from nodegraph_diffusion.recipes.pictureworld.scene import MOST_THINGS, Colour, Kind, Size

T = TypeVar("T", bound=str)

_DETERMINERS = {"a": 1, "an": 1, "the": 1, "one": 1, "another": 1, "two": 2, "three": 3}
_LINKS: dict[str, tuple[LinkWord, bool]] = {
    "left": ("left", False),
    "right": ("left", True),
    "above": ("above", False),
    "below": ("above", True),
}
"""Each relation as a link, and whether subject and object change places."""


def parse(text: str) -> Demands:
    """What a caption demands. Raises ValueError, with the words, if the grammar does not have it."""
    remaining = text.lower().replace(",", " , ").split()
    remaining, place = _take(remaining, phrases.PLACE_PHRASES)
    remaining, time = _take(remaining, phrases.TIME_PHRASES)
    remaining = _without_opening(_stripped(remaining))
    joined = " ".join(remaining)
    if not remaining and (place or time):
        return Demands((), (), place, time)
    for ground, options in phrases.GROUND_PHRASES.items():
        if joined in options:
            return Demands((), (), place or ground, time)
    for hour, options in phrases.HOUR_PHRASES.items():
        if joined in options:
            return Demands((), (), place, time or hour)
    groups, links = _Body(remaining, text).read()
    return Demands(groups, links, place, time)


def _stripped(remaining: list[str]) -> list[str]:
    """The words without commas at either end."""
    while remaining and remaining[0] == ",":
        remaining = remaining[1:]
    while remaining and remaining[-1] == ",":
        remaining = remaining[:-1]
    return remaining


def _without_opening(remaining: list[str]) -> list[str]:
    for opening in (*phrases.OPENINGS, *phrases.THERE):
        parts = opening.split()
        if remaining[: len(parts)] == parts:
            return remaining[len(parts) :]
    return remaining


def _take(remaining: list[str], table: Mapping[T, tuple[str, ...]]) -> tuple[list[str], T | None]:
    """Remove the longest of the phrases: (remaining words, key of the phrase)."""
    best: tuple[int, int, T] | None = None
    for key, options in table.items():
        for option in options:
            parts = option.split()
            for start in range(len(remaining) - len(parts) + 1):
                if remaining[start : start + len(parts)] == parts and (best is None or len(parts) > best[0]):
                    best = (len(parts), start, key)
    if best is None:
        return remaining, None
    length, start, key = best
    return remaining[:start] + remaining[start + length :], key


@cache
def _connectives() -> list[tuple[tuple[str, ...], str]]:
    """The phrases between lists of things, longest first, with what they mean."""
    found = [(option, str(word)) for word, options in phrases.RELATION_PHRASES.items() for option in options]
    found += [(option, "beside") for option in phrases.BESIDE]
    found += [(phrases.BETWEEN, "between")]
    return sorted(((tuple(option.split()), word) for option, word in found), key=lambda entry: -len(entry[0]))


class _Body:
    """Reads the words for things and their arrangement, from left to right."""

    def __init__(self, remaining: Sequence[str], text: str) -> None:
        self._words = list(remaining)
        self._text = text
        self._at = 0
        self._groups: list[Group] = []
        self._links: list[Link] = []

    def read(self) -> tuple[tuple[Group, ...], tuple[Link, ...]]:
        """The groups and the links of the whole body."""
        subjects = self._list()
        if self._together():
            self._links.append(Link("beside", subjects, subjects))
        while word := self._connective():
            self._link(word, subjects, self._list())
            if self._peek("and"):
                self._at += 1
        if self._at < len(self._words):
            raise self._refused(self._words[self._at :])
        total = sum(group.count for group in self._groups)
        if total > MOST_THINGS:
            raise ValueError(f"caption {self._text!r} has {total} things; at most {MOST_THINGS} fit into a picture")
        return tuple(self._groups), tuple(self._links)

    def _link(self, word: str, subjects: tuple[int, ...], objects: tuple[int, ...]) -> None:
        if word in _LINKS:
            link, swapped = _LINKS[word]
            self._links.append(Link(link, objects, subjects) if swapped else Link(link, subjects, objects))
        else:
            self._links.append(Link("between" if word == "between" else "beside", subjects, objects))

    def _peek(self, word: str) -> bool:
        return self._at < len(self._words) and self._words[self._at] == word

    def _connective(self) -> str | None:
        for parts, word in _connectives():
            if tuple(self._words[self._at : self._at + len(parts)]) == parts:
                self._at += len(parts)
                return word
        return None

    def _together(self) -> bool:
        rest = " ".join(self._words[self._at :])
        found = any(rest == option for options in phrases.TOGETHER.values() for option in options)
        if found:
            self._at = len(self._words)
        return found

    def _list(self) -> tuple[int, ...]:
        """One or more groups with commas and "and" between them: their numbers."""
        first = len(self._groups)
        self._groups.append(self._group())
        while self._at < len(self._words):
            start = self._at
            while self._peek(",") or self._peek("and"):
                self._at += 1
            separated, after = self._at > start, self._at
            if not separated or self._connective():
                self._at = start
                break
            self._at = after
            self._groups.append(self._group())
        return tuple(range(first, len(self._groups)))

    def _group(self) -> Group:
        start, count = self._at, None
        if self._words[start : start + 3] == ["a", "pair", "of"]:
            count = 2
            self._at += 3
        elif self._at < len(self._words) and self._words[self._at] in _DETERMINERS:
            count = _DETERMINERS[self._words[self._at]]
            self._at += 1
        size: Size | None = None
        colour: Colour | None = None
        while self._at < len(self._words):
            word = self._words[self._at]
            self._at += 1
            if word in _sizes() and size is None:
                size = _sizes()[word]
            elif word in _colours() and colour is None:
                colour = _colours()[word]
            elif word in _nouns():
                kind, plural = _nouns()[word]
                if plural and count is None:
                    raise ValueError(f"caption {self._text!r} does not say how many {word}; write 'two {word}'")
                return Group(kind, colour, size, count or 1)
            else:
                break
        raise self._refused(self._words[start:])

    def _refused(self, words: Sequence[str]) -> ValueError:
        return ValueError(
            f"{' '.join(words)!r} in caption {self._text!r} is not a thing of the picture world; expected '[size] [colour] kind', "
            f"where a kind is one of {', '.join(phrases.NOUNS)}"
        )


@cache
def _sizes() -> dict[str, Size]:
    return {word: size for size, options in phrases.SIZE_WORDS.items() for word in options}


@cache
def _colours() -> dict[str, Colour]:
    return {word: colour for colour, options in phrases.COLOUR_WORDS.items() for word in options}


@cache
def _nouns() -> dict[str, tuple[Kind, bool]]:
    """The kind of each noun, and whether it is a plural."""
    return {word: (kind, plural) for kind, names in phrases.NOUNS.items() for pair in names for plural, word in enumerate(pair)}  # type: ignore[misc]
