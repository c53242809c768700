"""Prompt weights: ComfyUI's and A1111's grammar, parsed to segments of text with their weights."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

NESTING_WEIGHT = 1.1
PARENTHESIS = re.compile(r"\\[()]|[()]")
ESCAPED = re.compile(r"\\([()])")
BRACKETS = {")": "(", "]": "["}
EMPHASIS = re.compile(r"\\[()\[\]\\]|:\s*([+-]?(?:\d+\.?\d*|\.\d+))\s*\)|[()\[\]]|[^\\()\[\]:]+|[\\:]")


def parse_weights(text: str) -> list[tuple[str, float]]:
    """The segments of `text` between parentheses, in order, each with its weight; 1 outside them.

    `(text)` multiplies the weight by 1.1, and `(text:1.3)` sets it to 1.3, whatever surrounds it; groups nest. `\\(` and
    `\\)` are text, and so are parentheses without a partner, square brackets, and numbers that are not finite.
    """
    pending = [(part, 1.0) for part in _split(text)][::-1]
    segments = []
    while pending:
        part, weight = pending.pop()
        if _is_group(part):
            inner, weight = _group_weight(part[1:-1], weight * NESTING_WEIGHT)
            pending += [(part, weight) for part in _split(inner)][::-1]
        else:
            segments.append((ESCAPED.sub(r"\1", part), weight))
    return segments


def parse_emphasis(text: str) -> list[tuple[str, float]]:
    """The segments of `text` by A1111's rules, in order, each with its weight; 1 outside all brackets.

    `(text)` multiplies the weight by 1.1, `[text]` divides it by 1.1, and `(text:1.3)` multiplies it by 1.3; groups nest. A
    bracket or backslash after a backslash is text; any other backslash is left out. An unclosed group counts as closed at the end
    of the text; a bracket that closes nothing is text.
    """
    segments: list[tuple[str, float]] = []
    opened: list[tuple[str, int]] = []  # the bracket of each open group, and the index of its first segment
    for match in EMPHASIS.finditer(text):
        part, number = match[0], match[1]
        close = ")" if number else part
        if part in "([":
            opened.append((part, len(segments)))
        elif close in BRACKETS and (start := _opening(opened, BRACKETS[close])) is not None:
            factor = float(number) if number else NESTING_WEIGHT if close == ")" else 1 / NESTING_WEIGHT
            segments[start:] = [(inner, weight * factor) for inner, weight in segments[start:]]
        else:
            segments.append((part[1:] if part[0] == "\\" else part, 1.0))
    for bracket, start in reversed(opened):
        factor = NESTING_WEIGHT if bracket == "(" else 1 / NESTING_WEIGHT
        segments[start:] = [(inner, weight * factor) for inner, weight in segments[start:]]
    return _merged(segments) or [("", 1.0)]


def _opening(opened: list[tuple[str, int]], bracket: str) -> int | None:
    """The first segment of the innermost open group with this `bracket`, which it closes; None if no such group is open."""
    for i in reversed(range(len(opened))):
        if opened[i][0] == bracket:
            return opened.pop(i)[1]
    return None


def _merged(segments: list[tuple[str, float]]) -> list[tuple[str, float]]:
    """The segments, with neighbours of the same weight joined."""
    merged: list[tuple[str, float]] = []
    for text, weight in segments:
        if merged and merged[-1][1] == weight:
            merged[-1] = merged[-1][0] + text, weight
        else:
            merged.append((text, weight))
    return merged


def _split(text: str) -> Iterator[str]:
    """`text` split around its outermost groups, which keep their parentheses."""
    start = depth = 0
    for match in PARENTHESIS.finditer(text):
        if match[0] == "(":
            if depth == 0 and start < match.start():
                yield text[start : match.start()]
            start = match.start() if depth == 0 else start
            depth += 1
        elif match[0] == ")":
            depth -= 1
            if depth == 0:
                yield text[start : match.end()]
                start = match.end()
    if start < len(text):
        yield text[start:]


def _is_group(part: str) -> bool:
    return len(part) > 1 and part[0] == "(" and part[-1] == ")" and part[-2] != "\\"


def _group_weight(inner: str, nested: float) -> tuple[str, float]:
    """The text of a group and its weight: the number after its last colon if there is one, else `nested`."""
    text, colon, number = inner.rpartition(":")
    try:
        weight = float(number) if colon and text else nested
    except ValueError:
        return inner, nested
    return (text, weight) if colon and text and math.isfinite(weight) else (inner, nested)
