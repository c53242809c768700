"""A third-party plugin: nodes that break the rules, and values whose lifetimes can be counted."""

from __future__ import annotations

import hashlib
import threading
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nodegraph import Run, hookimpl, node
from nodegraph.plugin_api import CpuBackend

ALIVE: weakref.WeakSet[Thing] = weakref.WeakSet()
GO = threading.Event()
STARTED = threading.Event()


class Thing:
    """Bytes that can be changed in place."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        ALIVE.add(self)


class ThingCodec:
    name = "thing"
    suffix = ".thing"
    extension = ".bin"

    def digest(self, value: Thing) -> str:
        return hashlib.sha256(value.data).hexdigest()

    def save(self, value: Thing, path: Path) -> None:
        path.write_bytes(value.data)

    def load(self, path: Path) -> Thing:
        return Thing(path.read_bytes())

    def export(self, value: Thing) -> list[bytes]:
        return [bytes(value.data)]

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return data

    def check(self, value: Thing) -> str | None:
        return "it holds NaN" if value.data.startswith(b"nan") else None

    def version(self, value: Thing) -> int:
        return sum(value.data[:8])

    def size(self, value: Thing) -> int:
        return len(value.data)


@node("Thing")
def thing(text: str = "a", size: int = 1) -> Thing:
    """A value of `size` bytes."""
    return Thing(text.encode() * size)


@node("Next")
def next_(thing: Thing, i: int) -> Thing:
    """Another value of the same size."""
    return Thing(bytes([i % 251]) * len(thing.data))


@node("Things")
def things(texts: list[str]) -> list[Thing]:
    """Several values."""
    return [Thing(text.encode()) for text in texts]


@node("Odd")
def odd(how: str) -> float | list[float] | dict[str, list[float]]:
    """Values that are not finite numbers."""
    inf, nan = float("inf"), float("nan")
    values: dict[str, Any] = {"inf": inf, "-inf": -inf, "nan": nan, "list": [1.0, inf], "mapping": {"a": [nan]}}
    return values[how]


@node("Append")
def append(numbers: list[float]) -> int:
    """Appends to its input list."""
    numbers.append(1.0)
    return len(numbers)


@node("Put")
def put(table: Any) -> int:
    """Changes a mapping in its input list."""
    table[0]["a"] = 2
    return 1


@node("Scribble")
def scribble(things: list[Thing]) -> int:
    """Changes one of the values in a list."""
    things[-1].data[:1] = b"x"
    return len(things)


@node("Greedy")
def greedy(text: str = "") -> str:
    """Runs out of memory while anything is alive, its own work included."""
    mine = Thing(b"mine")
    if len(ALIVE) > 1:
        raise MemoryError(f"{len(ALIVE)} alive, {len(mine.data)} bytes of them mine")
    return text


@node("Room", numeric=True)
def room(run: Run = Run()) -> str:
    """Fails as an accelerator does."""
    raise RuntimeError("no room on the device")


@node("Endless")
def endless(run: Run = Run()) -> str:
    """Takes steps until it is stopped."""
    while True:
        STARTED.set()
        run.step(1, 2)


@node("Linger")
def linger(text: str) -> str:
    """Ends when a test says so."""
    GO.wait(20)
    return text


@node("Raise")
def raise_(kind: str = "generator", after: Any = None) -> str:
    """Raises what no node should."""
    raise {"generator": GeneratorExit(), "base": BaseException("bare"), "wordless": _Wordless()}[kind]


class _Wordless(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("no words")


def fall(text: str) -> str:
    """A filter that does not work."""
    return {}[text]  # type: ignore[no-any-return]


@hookimpl
def register_nodes(register: Any) -> None:
    for value in list(globals().values()):
        if hasattr(value, "__nodegraph__"):
            register(value)


@hookimpl
def register_codecs(register: Any) -> None:
    register(Thing, ThingCodec())


@hookimpl
def register_filters(register: Any) -> None:
    register("fall", fall)


class LostDevice(CpuBackend):
    """A backend that cannot tell whether memory ran out."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        if isinstance(error, RuntimeError):
            raise LookupError("the device is gone")
        return False
