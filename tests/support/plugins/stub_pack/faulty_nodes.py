"""Nodes that break the rules or raise, a filter and a backend that fail."""

from __future__ import annotations

import os
import random
from typing import Any

from nodegraph import File, Run, node
from nodegraph.plugin_api import CpuBackend

from .nodes import Loaded
from .values import CALLS, MODELS, Blob, Model

# --- wrong results


@node("WrongType")
def wrong_type() -> int:
    """Returns text instead of the whole number that it declares."""
    return "text"  # type: ignore[return-value]


@node("TooFewOutputs")
def too_few_outputs() -> Loaded:
    """Returns one output instead of two."""
    return (1,)  # type: ignore[return-value]


@node("NaN")
def nan(blob: Blob | None = None) -> Blob:
    """Returns a blob that its codec refuses."""
    return Blob(b"nan")


@node("NotJson")
def not_json(how: str) -> float | list[float] | dict[str, list[float]]:
    """Returns numbers that JSON cannot hold."""
    inf, nan = float("inf"), float("nan")
    values: dict[str, Any] = {"inf": inf, "-inf": -inf, "nan": nan, "list": [1.0, inf], "mapping": {"a": [nan]}}
    return values[how]


@node("Objects")
def objects() -> list[Any]:
    """Returns a list that its codec cannot store."""
    return [object()]


@node("CountItems")
def count_items(items: list[Any]) -> int:
    """Returns how many items a list has."""
    return len(items)


@node("NotPure")
def not_pure() -> int:
    """Returns a different number each time, although it is declared pure."""
    CALLS.append("NotPure")
    return CALLS.count("NotPure")


# --- inputs and files that change


@node("ChangeBlob")
def change_blob(blob: Blob) -> int:
    """Changes its input in place."""
    blob.items += (b"mine",)
    return len(blob.items)


@node("ChangeListItem")
def change_list_item(blobs: list[Blob]) -> int:
    """Changes one blob of its input list in place."""
    blobs[-1].items += (b"mine",)
    return len(blobs)


@node("ChangeList")
def change_list(numbers: list[float]) -> int:
    """Appends to its input list."""
    numbers.append(1.0)
    return len(numbers)


@node("ChangeMapping")
def change_mapping(table: Any) -> int:
    """Changes a mapping inside its input list."""
    table[0]["a"] = 2
    return 1


@node("Edit")
def edit(path: File, text: str) -> str:
    """Reads a file and then changes it, as an editor might during a run."""
    before = path.read_text()
    path.write_text(text)
    return before


@node("EditAndLoad")
def edit_and_load(path: File, text: str) -> Model:
    """Changes a file, and makes a model of its new content."""
    path.write_text(text)
    return Model(text)


@node("EditAndMake", keep=False)
def edit_and_make(path: File, text: str) -> Blob:
    """Changes a file, and makes a blob of its new content, which is not kept."""
    path.write_text(text)
    return Blob(text.encode())


@node("DrawGlobal")
def draw_global() -> int:
    """Draws from the global generator, which its key does not cover."""
    return random.randrange(1 << 60)


@node("DrawGlobalLarge", keep=False)
def draw_global_large() -> Blob:
    """Draws from the global generator, and makes a blob that is not kept."""
    return Blob(str(random.randrange(1 << 60)).encode())


@node("EditAndRestore")
def edit_and_restore(path: File, text: str) -> str:
    """Changes a file, reads it, and restores its contents and time."""
    before, stat = path.read_text(), path.stat()
    path.write_text(text)
    seen = path.read_text()
    path.write_text(before)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    return seen


# --- exceptions


@node("BrokenModel")
def broken_model() -> Any:
    """Raises instead of loading a model."""
    raise ValueError("the weights are damaged")


class ErrorWithoutMessage(BaseException):
    def __str__(self) -> str:
        raise RuntimeError("no words")


@node("Fails")
def fails(value: Any = None, how: str = "value", after: Any = None) -> float:
    """Raises the exception that `how` names."""
    raise {
        "value": ValueError("the picture has no pixels. Give another"),
        "key": KeyError("surprise"),
        "memory": MemoryError(),
        "interrupt": KeyboardInterrupt(),
        "exit": SystemExit(3),
        "generator": GeneratorExit(),
        "base": BaseException("bare"),
        "no message": ErrorWithoutMessage(),
    }[how]


@node("OutOfMemoryOnce")
def out_of_memory_once(run: Run = Run()) -> str:
    """Runs out of memory the first time."""
    CALLS.append("OutOfMemoryOnce")
    run.notice("tried")
    if CALLS.count("OutOfMemoryOnce") == 1:
        raise MemoryError
    return "done"


@node("SortThenOutOfMemory")
def sort_then_out_of_memory(numbers: list[int]) -> list[int]:
    """Changes its input, and runs out of memory the first time."""
    CALLS.append("SortThenOutOfMemory")
    numbers.append(len(numbers))
    if CALLS.count("SortThenOutOfMemory") == 1:
        raise MemoryError
    return sorted(numbers)


@node("NeedsAllMemory")
def needs_all_memory(text: str = "") -> str:
    """Runs out of memory if any model is in memory."""
    if MODELS:
        raise MemoryError(f"{len(MODELS)} models in memory")
    return text


@node("DeviceError", numeric=True)
def device_error(run: Run = Run()) -> str:
    """Raises an error as accelerators do."""
    raise RuntimeError("no room on the device")


class FaultyBackend(CpuBackend):
    """A backend that raises when it is asked whether memory ran out."""

    def is_out_of_memory(self, error: BaseException) -> bool:
        if isinstance(error, RuntimeError):
            raise LookupError("the device is gone")
        return False


def broken_filter(text: str) -> str:
    """Raises KeyError."""
    return {}[text]  # type: ignore[no-any-return]
