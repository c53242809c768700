"""Nodes that follow the rules: numbers, text, blobs, models, files, and nodes that wait for each other."""

from __future__ import annotations

import threading
import time
from functools import partial
from typing import Annotated, Any, NamedTuple

from nodegraph import Choice, File, Help, Run, Seed, node

from .values import ALIVE, CALLS, GO, MOST_ALIVE, STARTED, Blob, Model


class Loaded(NamedTuple):
    model: Model
    size: int


# --- numbers


@node("Number")
def number(value: float = 0.0) -> float:
    """Returns a number."""
    CALLS.append("Number")
    return value


@node("Plus")
def plus(a: float, b: float = 1.0) -> float:
    """Returns a + b."""
    CALLS.append("Plus")
    return a + b


@node("Draw")
def draw(seed: Seed = 0, other: Seed = 0) -> int:
    """Returns the first of two seeds."""
    return seed


@node("Dice", pure=False)
def dice() -> int:
    """Returns a different number each time, and is declared impure."""
    CALLS.append("Dice")
    return len(CALLS)


@node("Total")
def total(values: list[float], weights: dict[str, float] | None = None, size: tuple[int, int] = (1, 2)) -> float:
    """Returns the sum of a list. The mapping and the tuple are inputs for tests of checking."""
    return sum(values)


# --- text


@node("Text", version=2)
def text(value: Annotated[str, Help("what it says")] = "hello") -> str:
    """Return a text."""
    return value


@node("Fold")
def fold(text: str = "") -> str:
    """Returns the text in lower case: different texts can give equal results."""
    CALLS.append("Fold")
    return text.lower()


@node("Filtered")
def filtered(text: str, filter: Annotated[str, Choice("filters")] = "upper") -> str:
    """Applies a filter, which a plugin registers, to a text."""
    return filter(text)  # type: ignore[operator]


@node("Many")
def many(numbers: list[float], text: str = "") -> str:
    """Returns a text and a list of numbers as one text."""
    return f"{text} {numbers}"


@node("Noticed")
def noticed(text: str = "", run: Run = Run()) -> str:
    """Returns a text and gives a notice."""
    run.notice(f"about {text}")
    return text


@node("Anything")
def anything(value: Any = None) -> Any:
    """Returns its input, which can be of any type."""
    return value


# --- blobs


@node("Make")
def make(text: str = "x", count: int = 1) -> Blob:
    """Makes a blob of `count` short items."""
    return Blob(*(f"{text}{i}".encode() for i in range(count)))


@node("Bytes")
def bytes_(text: str = "a", size: int = 1) -> Blob:
    """Makes a blob of one item: `text`, repeated `size` times."""
    return Blob(text.encode() * size)


@node("Several")
def several(texts: list[str]) -> list[Blob]:
    """Makes a list of blobs, one for each text."""
    return [Blob(text.encode()) for text in texts]


@node("Grow")
def grow(blob: Blob, size: int = 1) -> Blob:
    """Returns a blob with one more item, and notes how many blobs are in memory."""
    MOST_ALIVE.append(len(ALIVE))
    return Blob(*blob.items, b"." * size)


@node("Next")
def next_(blob: Blob, i: int) -> Blob:
    """Returns a different blob of the same size."""
    return Blob(bytes([i % 251]) * len(blob.items[0]))


@node("Large", keep=False)
def large(text: str = "a", size: int = 1) -> Blob:
    """Makes a blob that is not worth keeping."""
    CALLS.append("Large")
    return Blob(text.encode() * size)


@node("Length")
def length(blob: Blob, factor: int = 1) -> int:
    """Returns the bytes of a blob, multiplied."""
    CALLS.append("Length")
    return sum(map(len, blob.items)) * factor


# --- files and models


@node("Contents")
def contents(path: File, others: File | None = None) -> str:
    """Returns the text of a file."""
    return path.read_text()


@node("Load")
def load(path: File, run: Run = Run()) -> Loaded:
    """Loads a model, which stays resident, and returns it with its size."""
    CALLS.append("Load")
    return Loaded(run.resident("model", lambda: Model(path.read_text())), len(path.read_text()))


@node("Weights")
def weights(model: Model) -> str:
    """Returns the weights of a model."""
    return model.weights


@node("Use", numeric=True)
def use(model: Model, text: str = "") -> str:
    """Computes with a model, on the device of the run."""
    return model.weights + text


@node("Describe")
def describe(model: Model, text: str = "") -> str:
    """Returns a text with the weights of a model."""
    CALLS.append("Describe")
    return f"{text} by {model.weights}"


@node("Numeric", numeric=True)
def numeric(value: float = 0.0, run: Run = Run()) -> str:
    """Returns the device and the dtype of the run."""
    return f"{run.device}/{run.dtype}"


# --- progress, and several nodes at once


@node("Steps")
def steps(value: float = 0.0, n: int = 3, run: Run = Run()) -> float:
    """Takes `n` steps with previews."""
    for i in range(n):
        run.step(i + 1, n, preview=partial(int, i))
        STARTED.set()
    return value


@node("Wait")
def wait(text: str = "", after: Any = None, run: Run = Run()) -> str:
    """Takes steps until GO is set, so that it can be cancelled."""
    CALLS.append(text)
    run.step(1, 2)
    while not GO.wait(0.002):
        run.step(1, 2)
    return text


@node("WaitForGo")
def wait_for_go(text: str) -> str:
    """Waits until GO is set, without steps, so that it cannot be cancelled."""
    GO.wait(120)
    return text


@node("Endless")
def endless(run: Run = Run()) -> str:
    """Takes steps until it is cancelled."""
    while True:
        STARTED.set()
        run.step(1, 2)


BOTH_RUN = threading.Barrier(2)


@node("Meet")
def meet(who: str) -> str:
    """Returns once a second `Meet` runs at the same time."""
    BOTH_RUN.wait(timeout=300)
    return who


ONE_RUNS = threading.Lock()


@node("Alone", numeric=True)
def run_one_at_a_time(who: str) -> str:
    """Fails if a second `Alone` runs at the same time."""
    if not ONE_RUNS.acquire(blocking=False):
        raise ValueError("two at once")
    time.sleep(0.01)
    ONE_RUNS.release()
    return who
