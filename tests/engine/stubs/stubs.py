"""Node types and codecs for tests of the engine: no tensor, no picture, and every way of going wrong."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
import weakref
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import pluggy

from nodegraph import Choice, File, Run, Seed, hookimpl, hookspec, node

CALLS: list[str] = []
ALIVE: weakref.WeakSet[Blob] = weakref.WeakSet()
MOST_ALIVE: list[int] = []


class Blob:
    """Bytes with a codec: each item is one exported file."""

    def __init__(self, *items: bytes) -> None:
        self.items = items
        ALIVE.add(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self.items == other.items

    def __hash__(self) -> int:
        return hash(self.items)


class BlobCodec:
    name = "blob"
    suffix = ".blob"
    extension = ".bin"
    decoded = 0
    exported = 0

    def digest(self, value: Blob) -> str:
        return hashlib.sha256(repr(value.items).encode()).hexdigest()

    def save(self, value: Blob, path: Path) -> None:
        path.write_text(json.dumps([item.hex() for item in value.items]))

    def load(self, path: Path) -> Blob:
        type(self).decoded += 1
        return Blob(*map(bytes.fromhex, json.loads(path.read_text())))

    def export(self, value: Blob) -> list[bytes]:
        type(self).exported += 1
        return list(value.items)

    def embed(self, data: bytes, metadata: Mapping[str, str]) -> bytes:
        return data + b"\n" + json.dumps(dict(metadata)).encode()

    def check(self, value: Blob) -> str | None:
        return "it holds NaN" if b"nan" in value.items else None

    def version(self, value: Blob) -> int:
        return len(value.items)

    def size(self, value: Blob) -> int:
        return sum(map(len, value.items))


class Model:
    """A type without a codec."""

    def __init__(self, weights: str) -> None:
        self.weights = weights


class Loaded(NamedTuple):
    model: Model
    size: int


@node("Number")
def number(value: float = 0.0) -> float:
    """A number."""
    CALLS.append("Number")
    return value


@node("Plus")
def plus(a: float, b: float = 1.0) -> float:
    """a + b."""
    CALLS.append("Plus")
    return a + b


@node("Total")
def total(values: list[float]) -> float:
    """The sum of a list."""
    return sum(values)


@node("Text")
def text(value: str = "") -> str:
    """A text."""
    return value


@node("Anything")
def anything(value: Any = None) -> Any:
    """Returns its input."""
    return value


@node("Contents")
def contents(path: File, others: File | None = None) -> str:
    """What a file holds."""
    return path.read_text()


@node("Edit")
def edit(path: File, text: str) -> str:
    """Changes a file while it reads it, as an editor beside the run would."""
    before = path.read_text()
    path.write_text(text)
    return before


@node("Flicker")
def flicker(path: File, text: str) -> str:
    """Reads a file that holds something else for a moment."""
    before, stat = path.read_text(), path.stat()
    path.write_text(text)
    seen = path.read_text()
    path.write_text(before)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return seen


@node("Load")
def load(path: File, run: Run = Run()) -> Loaded:
    """A model and its size."""
    CALLS.append("Load")
    return Loaded(run.resident("model", lambda: Model(path.read_text())), len(path.read_text()))


@node("Weights")
def weights(model: Model) -> str:
    """Uses a model."""
    return model.weights


@node("Use", numeric=True)
def use(model: Model, text: str = "") -> str:
    """Computes with a model."""
    return model.weights + text


@node("Make")
def make(text: str = "x", count: int = 1) -> Blob:
    """A blob of `count` items."""
    return Blob(*(f"{text}{i}".encode() for i in range(count)))


@node("Grow")
def grow(blob: Blob, size: int = 1) -> Blob:
    """A longer blob; notes how many are alive."""
    MOST_ALIVE.append(len(ALIVE))
    return Blob(*blob.items, b"." * size)


@node("NaN")
def nan(blob: Blob | None = None) -> Blob:
    """A blob that its codec refuses."""
    return Blob(b"nan")


@node("Dice", pure=False)
def dice() -> int:
    """Another number each time."""
    CALLS.append("Dice")
    return len(CALLS)


@node("Fickle")
def fickle() -> int:
    """Is declared pure but is not."""
    CALLS.append("Fickle")
    return CALLS.count("Fickle")


@node("Draw")
def draw(seed: Seed = 0) -> int:
    """Its seed."""
    return seed


@node("Numeric", numeric=True)
def numeric(value: float = 0.0, run: Run = Run()) -> str:
    """Where it ran."""
    return f"{run.device}/{run.dtype}"


@node("Filtered")
def filtered(text: str, filter: Annotated[str, Choice("filters")] = "upper") -> str:
    """Text through something that a plugin registered."""
    return filter(text)  # type: ignore[operator]


@node("Fails")
def fails(value: Any = None, how: str = "value") -> float:
    """Raises the given error."""
    raise {
        "value": ValueError("the picture has no pixels. Give another"),
        "key": KeyError("surprise"),
        "memory": MemoryError(),
        "interrupt": KeyboardInterrupt(),
        "exit": SystemExit(3),
    }[how]


@node("Tight")
def tight(run: Run = Run()) -> str:
    """Runs out of memory the first time."""
    CALLS.append("Tight")
    run.notice("tried")
    if CALLS.count("Tight") == 1:
        raise MemoryError
    return "done"


@node("Liar")
def liar() -> int:
    """Returns a value of another type than declared."""
    return "text"  # type: ignore[return-value]


@node("Short")
def short() -> Loaded:
    """Returns too few outputs."""
    return (1,)  # type: ignore[return-value]


STARTED = threading.Event()


@node("Steps")
def steps(value: float = 0.0, n: int = 3, run: Run = Run()) -> float:
    """Takes steps."""
    for i in range(n):
        run.step(i + 1, n, preview=partial(int, i))
        STARTED.set()
    return value


GO = threading.Event()


@node("Wait")
def wait(text: str = "", after: Any = None, run: Run = Run()) -> str:
    """Takes steps until GO is set."""
    CALLS.append(text)
    run.step(1, 2)
    while not GO.wait(0.002):
        run.step(1, 2)
    return text


@node("Fold")
def fold(text: str = "") -> str:
    """The text in lower case: different texts can have the same result."""
    CALLS.append("Fold")
    return text.lower()


@node("Describe")
def describe(model: Model, text: str = "") -> str:
    """Needs a model and a text."""
    CALLS.append("Describe")
    return f"{text} by {model.weights}"


@node("Many")
def many(numbers: list[float], text: str = "") -> str:
    """A text and numbers."""
    return f"{text} {numbers}"


MEETING = threading.Barrier(2)


@node("Meet")
def meet(who: str) -> str:
    """Returns once another one runs beside it."""
    MEETING.wait(timeout=20)
    return who


ALONE = threading.Lock()


@node("Alone", numeric=True)
def alone(who: str) -> str:
    """Fails if another one runs beside it."""
    if not ALONE.acquire(blocking=False):
        raise ValueError("two at once")
    time.sleep(0.01)
    ALONE.release()
    return who


@node("Trample")
def trample(blob: Blob) -> int:
    """Changes its input."""
    blob.items += (b"mine",)
    return len(blob.items)


@node("Noticed")
def noticed(text: str = "", run: Run = Run()) -> str:
    """Gives a notice."""
    run.notice(f"about {text}")
    return text


class Specs:
    @staticmethod
    @hookspec
    def register_filters(register: Any) -> None:
        """Offer filters."""


@hookimpl
def add_hooks(pluginmanager: pluggy.PluginManager) -> None:
    pluginmanager.add_hookspecs(Specs)


@hookimpl
def register_nodes(register: Any) -> None:
    for value in list(globals().values()):
        if hasattr(value, "__nodegraph__"):
            register(value)


@hookimpl
def register_codecs(register: Any) -> None:
    register(Blob, BlobCodec())


@hookimpl
def register_filters(register: Any) -> None:
    register("upper", str.upper)
