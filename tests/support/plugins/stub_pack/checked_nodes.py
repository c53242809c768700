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
