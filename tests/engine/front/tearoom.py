"""Stub node types for tests of what is checked before anything runs: every kind of input that there is, and a hook of its own."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pluggy

from nodegraph import Choice, File, Help, Range, Reads, Resource, Run, Seed, hookimpl, hookspec, node


class Cup:
    """A type with a codec."""

    def __init__(self, text: str = "") -> None:
        self.text = text


class Kettle:
    """A type that lives in memory only."""


class CupCodec:
    name = "cup"
    suffix = extension = ".cup"

    def digest(self, value: Cup) -> str:
        return hashlib.sha256(value.text.encode()).hexdigest()

    def save(self, value: Cup, path: Path) -> None:
        path.write_text(value.text)

    def load(self, path: Path) -> Cup:
        return Cup(path.read_text())

    def export(self, value: Cup) -> list[bytes]:
        return [value.text.encode()]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return data

    def check(self, value: Cup) -> str | None:
        return None

    def size(self, value: Cup) -> int:
        return len(value.text)


class Served(NamedTuple):
    cup: Cup
    kettle: Kettle
    degrees: int


def shelf(text: str, base: Path) -> Resource:
    """Tins on a shelf: files that do not lie where the text says."""
    if text == "empty":
        raise ValueError("the shelf is empty.")
    return Resource(text.upper(), {"tin": base / text})


def orderly(start: int | None = None, end: int | None = None, **others: Any) -> Iterator[str]:
    if start == 13:
        raise ZeroDivisionError("13 brings bad luck")
    if start is not None and end is not None and end < start:
        yield f"it ends ({end}) before it starts ({start})"
    if start is not None and start > 100:
        yield f"start {start} is never reached"


@node("Serve")
def serve(path: File, cloth: File | None = None) -> Served:
    """Several outputs, from files."""
    return Served(Cup(path.read_text()), Kettle(), 90)


@node("Pour")
def pour(kettle: Kettle, cup: Cup | None = None, run: Run | None = None) -> Cup:
    """A type without a codec goes in, and perhaps a cup."""
    return cup or Cup()


@node("Brew")
def brew(
    text: str = "",
    tea: Annotated[str, Choice("teas")] = "green",
    mode: Literal["hot", "iced"] = "hot",
    minutes: Annotated[float, Range(0.5, 10), Help("how long it draws")] = 3,
    spoons: int = 1,
    milk: bool = False,
    level: float | None = None,
) -> Cup:
    """Every plain input."""
    return Cup(text)


@node("Draw")
def draw(seed: Seed = 0, other: Seed = 0) -> int:
    """Two seeds."""
    return seed


@node("Sum")
def total(values: list[float], weights: dict[str, float] | None = None, size: tuple[int, int] = (1, 2)) -> float:
    """Lists and mappings."""
    return sum(values)


@node("Say")
def say(text: str) -> str:
    """A text that has to be given."""
    return text


@node("Take")
def take(value: Any = None, tin: Annotated[str, Reads(shelf)] | None = None) -> Any:
    """Anything."""
    return value


@node("Add")
def add(a: int = 0, b: int = 0) -> int:
    """One link of a chain."""
    return a + b


@node("Stir", check=orderly)
def stir(start: int = 0, end: int = 10, cup: Cup | None = None) -> Cup:
    """Inputs that are wrong only together."""
    return Cup()


class Hooks:
    @staticmethod
    @hookspec
    def register_teas(register: Any) -> None:
        """Offer teas: `register(name, function)`."""


@hookimpl
def add_hooks(pluginmanager: pluggy.PluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


@hookimpl
def register_nodes(register: Any) -> None:
    for function in (serve, pour, brew, draw, total, say, take, add, stir):
        register(function)


@hookimpl
def register_codecs(register: Any) -> None:
    register(Cup, CupCodec())


@hookimpl
def register_teas(register: Any) -> None:
    register("green", str.lower, origin="Uji")
    register("earl_grey", str.upper)
