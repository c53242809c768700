"""A1111's syntax for prompts that change during a run: `[from:to:when]`, `[one|other]`, and `AND` between prompts.

As its documentation describes it: `[from:to:when]` switches after `when` steps, a number or a fraction of them; `[to:when]` adds
and `[from::when]` removes something; `[one|other]` takes the next one in each step; `AND` adds what each prompt adds to the
negative one, times the weight that may follow a prompt after a colon (Liu et al. 2022, "Compositional Visual Generation with
Composable Diffusion Models", Eq. 11).
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nodegraph_diffusion.conditioning.steps import Before, Every, From, StepCondition

MOST_VARIANTS: Final = 64
DEEPEST: Final = 16  # groups in each other; deeper ones are text

_AND = re.compile(r"\bAND\b")
_WEIGHT = re.compile(r"\s*:\s*([-+]?(?:\d+\.?\d*|\.\d+))\s*$")
_WHEN = re.compile(r"\s*(\d+\.?\d*|\.\d+)\s*")
_TOKEN = re.compile(r"\\.|[\[\]()|:]", re.DOTALL)
_PARTNER: Final = {"]": "[", ")": "("}


@dataclass(frozen=True)
class Variant:
    """A text, and the conditions that all hold in the steps in which it is the prompt."""

    text: str
    steps: tuple[StepCondition, ...] = ()


@dataclass(frozen=True)
class Term:
    """A prompt of several that are added with their weights, in all its variants."""

    variants: tuple[Variant, ...]
    weight: float = 1.0


def read_terms(text: str) -> list[Term]:
    """The prompts between `AND`s; without an `AND`, there are no weights. Raises ValueError if a prompt has too many variants."""
    parts = _AND.split(text)
    if len(parts) == 1:
        return [Term(read_variants(text))]
    terms = []
    for part in parts:
        weight = _WEIGHT.search(part)
        terms.append(Term(read_variants(part[: weight.start()] if weight else part), float(weight[1]) if weight else 1.0))
    return terms


def read_variants(text: str) -> tuple[Variant, ...]:
    """What `text` stands for in the steps of a run; in each step the conditions of exactly one variant hold.

    Raises ValueError if there are more than 64.
    """
    variants = _variants(text, 0)
    return tuple(_merged(variants))


def _variants(text: str, depth: int) -> list[Variant]:
    found = [Variant("")]
    plain: list[str] = []  # text that follows all of `found`
    for part, is_group in _split(text):
        choices = _choices(part, depth) if is_group and depth <= DEEPEST else [Variant(part)]
        if len(choices) == 1:
            plain.append(choices[0].text)
            continue
        found = [
            Variant(first.text + "".join(plain) + second.text, steps)
            for first, second in itertools.product(found, choices)
            if (steps := _both(first.steps, second.steps)) is not None
        ]
        plain.clear()
        if len(found) > MOST_VARIANTS:
            raise ValueError(
                f"prompt: expected at most {MOST_VARIANTS} different texts in the steps of a run, found more, since [a:b:0.5] and "
                f"[a|b] multiply. Use fewer of them"
            )
    return [Variant(variant.text + "".join(plain), variant.steps) for variant in found]


def _choices(part: str, depth: int) -> list[Variant]:
    """The variants of a group with its brackets."""
    inner = part[1:-1]
    if part[0] == "[" and (":" in inner or "|" in inner):
        options, fields = _separated(inner, "|"), _separated(inner, ":")
        if len(options) > 1 and len(fields) == 1:
            alternatives = [(option, Every(len(options), index)) for index, option in enumerate(options)]
            return [found for option, step in alternatives for found in _restricted(option, step, depth)]
        when = _when(fields[-1]) if len(fields) in (2, 3) and len(options) == 1 else None
        if when is not None:
            before = fields[0] if len(fields) == 3 else ""
            return [*_restricted(before, Before(when), depth), *_restricted(fields[-2], From(when), depth)]
    return [Variant(part[0] + found.text + part[-1], found.steps) for found in _variants(inner, depth + 1)]


def _restricted(text: str, step: StepCondition, depth: int) -> list[Variant]:
    """The variants of `text` in the steps in which `step` holds."""
    found = ((variant.text, _both((step,), variant.steps)) for variant in _variants(text, depth + 1))
    return [Variant(text, steps) for text, steps in found if steps is not None]


def _both(first: tuple[StepCondition, ...], second: tuple[StepCondition, ...]) -> tuple[StepCondition, ...] | None:
    """All conditions of both; None if no step can fulfil them."""
    steps = tuple(dict.fromkeys((*first, *second)))
    before, after = ([one.when for one in steps if isinstance(one, kind)] for kind in (Before, From))
    if any(type(end) is type(start) and end <= start for end in before for start in after):
        return None
    turns = [one for one in steps if isinstance(one, Every)]
    if any(a.count == b.count and a.first != b.first for a, b in itertools.combinations(turns, 2)):
        return None
    return steps


def _merged(variants: Sequence[Variant]) -> Sequence[Variant]:
    """One variant without conditions if all have the same text."""
    return [Variant(variants[0].text)] if len({variant.text for variant in variants}) == 1 else variants


def _when(text: str) -> float | int | None:
    """The number of a switch: a float up to 1 is a fraction of the steps; None for other text."""
    match = _WHEN.fullmatch(text)
    if match is None:
        return None
    number = float(match[1])
    return number if number <= 1 and ("." in match[1] or number == 0) else int(number)


def _split(text: str) -> list[tuple[str, bool]]:
    """`text` split around its outermost groups in brackets or parentheses, and whether each part is one.

    Groups keep their brackets. Brackets without a partner are text.
    """
    opened: list[tuple[str, int]] = []
    groups: list[tuple[int, int]] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in ("[", "("):
            opened.append((token, match.start()))
        elif token in _PARTNER and (index := _last(opened, _PARTNER[token])) is not None:
            start = opened[index][1]
            del opened[index:]
            while groups and groups[-1][0] > start:
                groups.pop()
            groups.append((start, match.end()))
    parts, end = [], 0
    for start, stop in groups:
        parts += [(text[end:start], False), (text[start:stop], True)]
        end = stop
    return [part for part in (*parts, (text[end:], False)) if part[0]]


def _separated(text: str, separator: str) -> list[str]:
    """`text` split at each `separator` that is outside of groups."""
    parts = [""]
    for part, is_group in _split(text):
        if is_group:
            parts[-1] += part
            continue
        end = 0
        for match in _TOKEN.finditer(part):
            if match[0] == separator:
                parts[-1] += part[end : match.start()]
                parts.append("")
                end = match.end()
        parts[-1] += part[end:]
    return parts


def _last(opened: Sequence[tuple[str, int]], bracket: str) -> int | None:
    return next((index for index in reversed(range(len(opened))) if opened[index][0] == bracket), None)
