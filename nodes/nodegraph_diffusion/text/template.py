"""Texts with choices: `{a|b}` takes one of several, `__name__` a line of a file, both by a seed."""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Lines = Callable[[str], Sequence[str]]
"""The lines that a wildcard stands for, by its name. Raises ValueError if there are none."""

_WILDCARD: Final = re.compile(r"__([\w\-./]*?[\w\-./])__")
_WEIGHT: Final = re.compile(r"\s*(\d+(?:\.\d+)?)\s*::")
_DEEPEST: Final = 30  # of choices and wildcards inside each other


def expand(template: str, seed: int, lines: Lines) -> str:
    """The text that a template becomes with a seed.

    `{a|b|c}` becomes one of its parts, which may be empty and may hold choices themselves; a part `2::b` is taken twice as often.
    `__name__` becomes one of `lines("name")`, a line that may hold choices, too. `\\{`, `\\|`, `\\}` and `\\_` are the characters
    themselves. The same template with the same seed always becomes the same text. Raises ValueError for a brace without its
    partner, weights that sum to 0, and choices that hold themselves.
    """
    return _Expansion(random.Random(seed), lines).text(template)


@dataclass(frozen=True)
class Style:
    """A prompt style: what it adds to a prompt and to a negative prompt."""

    prompt: str = ""
    negative: str = ""


def read_styles(text: str) -> dict[str, Style]:
    """The styles of a CSV table with the columns `name`, `prompt` and `negative_prompt`, as A1111 writes it. Raises ValueError."""
    reader = csv.DictReader(io.StringIO(text.removeprefix("\ufeff")), strict=True)
    if "name" not in (reader.fieldnames or ()):
        raise ValueError("expected a table with the columns name, prompt and negative_prompt in its first line")
    try:
        return {
            row["name"].strip(): Style(row.get("prompt") or "", row.get("negative_prompt") or "") for row in reader if row["name"]
        }
    except csv.Error as error:
        raise ValueError(f"line {reader.line_num}: {error}") from error


def with_style(text: str, addition: str) -> str:
    """A prompt with a style: where it says `{prompt}`, or else before it, with a comma."""
    if "{prompt}" in addition:
        return addition.replace("{prompt}", text)
    return ", ".join(part for part in (text.strip(), addition.strip()) if part)


def names_in(template: str) -> set[str]:
    """The names of the wildcards in a template."""
    return set(_WILDCARD.findall(template))


class _Expansion:
    """One pass over a template. Draws happen from left to right, the outer choice before those inside it."""

    def __init__(self, generator: random.Random, lines: Lines) -> None:
        self.generator, self.lines = generator, lines

    def text(self, template: str, depth: int = 0) -> str:
        if depth > _DEEPEST:
            raise ValueError(f"expected choices at most {_DEEPEST} deep, found more: a wildcard may hold itself. Break the circle")
        result, position = "", 0
        while position < len(template):
            character = template[position]
            wildcard = _WILDCARD.match(template, position)
            if character == "\\" and template[position + 1 : position + 2] in ("{", "|", "}", "_"):
                result += template[position + 1]
                position += 2
            elif character == "{":
                parts, position = _parts(template, position)
                result += self.text(self._chosen(parts), depth + 1)
            elif character == "}":
                raise ValueError(f"expected a {{ before the }} at character {position + 1} of {template!r}. Write \\}} for a brace")
            elif wildcard is not None:
                found = self.lines(wildcard[1])
                result += self.text(found[self._index([1.0] * len(found))], depth + 1)
                position = wildcard.end()
            else:
                result += character
                position += 1
        return result

    def _chosen(self, parts: Sequence[str]) -> str:
        written = [_WEIGHT.match(part) for part in parts]
        weights = [float(found[1]) if found else 1.0 for found in written]
        if not sum(weights) > 0:
            raise ValueError(f"expected a weight above 0 in {{{'|'.join(parts)}}}, found none. Correct one")
        index = self._index(weights)
        found = written[index]
        return parts[index][found.end() if found else 0 :]

    def _index(self, weights: Sequence[float]) -> int:
        """The index of a weight, drawn in proportion to it."""
        drawn = self.generator.random() * sum(weights)
        for index, weight in enumerate(weights):
            drawn -= weight
            if drawn < 0:
                return index
        return max(index for index, weight in enumerate(weights) if weight > 0)


def _parts(template: str, start: int) -> tuple[list[str], int]:
    """The parts of the choice whose brace is at `start`, and the position after its end."""
    parts, depth, position = [""], 0, start + 1
    while position < len(template):
        character = template[position]
        if character == "\\":
            parts[-1] += template[position : position + 2]
            position += 2
            continue
        if character == "}" and depth == 0:
            return parts, position + 1
        if character == "|" and depth == 0:
            parts.append("")
        else:
            depth += (character == "{") - (character == "}")
            parts[-1] += character
        position += 1
    raise ValueError(f"expected a }} for the {{ at character {start + 1} of {template!r}. Close it, or write \\{{ for a brace")


def from_mapping(wildcards: Mapping[str, Sequence[str]], where: str) -> Lines:
    """Lines by name, from a mapping; errors say that there are none `where`."""

    def lines(name: str) -> Sequence[str]:
        found = wildcards.get(name)
        if not found:
            known = ", ".join(sorted(wildcards)[:8]) or "none"
            raise ValueError(f"__{name}__: expected the name of a file of lines {where}, which has {known}. Correct the name")
        return found

    return lines
