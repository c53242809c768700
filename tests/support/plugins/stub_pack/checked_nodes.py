"""Nodes with every kind of input, for tests of what is checked before anything runs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

from nodegraph import Choice, File, Help, Range, Reads, Resource, Run, node

from .values import Blob, Model


class Parsed(NamedTuple):
    blob: Blob
    model: Model
    size: int


def find_entry(text: str, base: Path) -> Resource:
    """Find the file of an entry: the value is the text in capitals, and the file is called "entry" in keys."""
    if text == "none":
        raise ValueError("there are no entries.")
    return Resource(text.upper(), {"entry": base / text})


def check_order(start: int | None = None, end: int | None = None, **others: Any) -> Iterator[str]:
    """Check two inputs together, as a node's `check` does. It fails for one value: 13."""
    if start == 13:
        raise ZeroDivisionError("cannot check 13")
    if start is not None and end is not None and end < start:
        yield f"it ends ({end}) before it starts ({start})"
    if start is not None and start > 100:
        yield f"start {start} is never reached"


@node("Parse")
def parse(path: File, extra: File | None = None) -> Parsed:
    """Reads files and returns several outputs, one of them without a codec."""
    return Parsed(Blob(path.read_bytes()), Model(), 90)


@node("Apply")
def apply(model: Model, blob: Blob | None = None, run: Run | None = None) -> Blob:
    """Takes a model, which must be a link, and optionally a blob."""
    return blob or Blob()


@node("Format")
def format_(
    text: str = "",
    filter: Annotated[str, Choice("filters")] = "lower",
    mode: Literal["short", "long"] = "short",
    scale: Annotated[float, Range(0.5, 10), Help("how large")] = 3,
    times: int = 1,
    strict: bool = False,
    level: float | None = None,
) -> Blob:
    """Has an input of each plain type."""
    return Blob(text.encode())


@node("Say")
def say(text: str) -> str:
    """Takes a text that has no default."""
    return text


@node("Find")
def find(entry: Annotated[str, Reads(find_entry)] | None = None) -> str | None:
    """Takes a name from which `find_entry` makes the path of a file."""
    return entry


@node("Add")
def add(a: int = 0, b: int = 0) -> int:
    """Returns a + b, two whole numbers that both have defaults."""
    return a + b


@node("Slice", check=check_order)
def slice_(start: int = 0, end: int = 10, blob: Blob | None = None) -> Blob:
    """Takes inputs that can be wrong together although each is right."""
    return Blob()


class Paper:
    """A value without a codec, whose length may be known before a node makes it."""


def outline_roll(length: int | None = None) -> dict[str, int]:
    """What is known about a roll before it runs: its length. It fails for one value: 13."""
    if length == 13:
        raise ZeroDivisionError("cannot foresee 13")
    return {} if length is None else {"output": length}


@node("Roll", outline=outline_roll)
def roll(length: int = 10) -> Paper:
    """Returns paper whose length is known before it runs."""
    return Paper()


def check_cut(roll: int | None = None, length: int = 0) -> Iterator[str]:
    """Check a literal against what is known about a value that arrives over a link."""
    if roll is not None and length > roll:
        yield f"length: {length} is more than the {roll} of the roll"


@node("FindPaper")
def find_paper() -> Paper:
    """Returns paper of which nothing is known before it runs."""
    return Paper()


@node("Cut", check=check_cut, outline=lambda roll=None, length=0: {} if roll is None else {"output": roll - length})
def cut(roll: Paper, length: int) -> Paper:
    """Takes paper whose length may be known, and returns a shorter piece."""
    return roll
