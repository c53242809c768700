"""What fuzzed graphs share with others: input files, values given in Python, and a second actor that changes them during runs."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from nodegraph_nodes.types import Image
from tests.fuzz.graphs import Offered, ReadFile

FILES = 3
VARIANTS = 4

LONGEST_PAUSE = 0.002
"""Seconds between two acts of the second actor at most. A node takes about one millisecond."""

Mark = dict[Any, int]


def text_of(variant: int) -> str:
    """What a file may hold. All variants have the same length."""
    return f"content {variant}"


def offered(kind: str, variant: int) -> Any:
    """What a value given in Python may be, as a plain value."""
    if kind == "image":
        return np.full((1, 2, 2, 3), variant / 4, np.float32)
    return [variant, 2, 3] if kind == "ints" else {"v": [variant, {"w": variant / 2}]}


class Surroundings:
    """Files in `folder` and values given in Python, with the history of each: what it holds now is the last entry."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._history: dict[Any, list[Any]] = {}
        self._objects: dict[tuple[str, int], Any] = {}
        self._lock = threading.RLock()
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(FILES):
            self.path(number).write_text(text_of(0))
            self._history[ReadFile(number)] = [text_of(0)]

    def path(self, number: int) -> Path:
        return self._folder / f"file{number}"

    def value(self, item: Offered) -> Any:
        """The value given in Python: one object for all graphs."""
        with self._lock:
            value = self._objects.get(item)
            if value is None:
                first = offered(item.kind, item.number)
                self._history[item] = [first]
                if item.kind == "image":
                    import torch

                    value = Image(torch.from_numpy(first.copy()))
                else:
                    value = offered(item.kind, item.number)
                self._objects[item] = value
            return value

    def held(self) -> AbstractContextManager[object]:
        """Nothing changes during the block."""
        return self._lock

    def mark(self) -> Mark:
        """The present time, for `possible`."""
        with self._lock:
            return {item: len(history) - 1 for item, history in self._history.items()}

    def possible(self, item: Any, since: Mark) -> list[Any]:
        """What a file or a value given in Python may have been since then."""
        with self._lock:
            return self._history[item][since.get(item, 0) :]

    def change_file(self, random: Random) -> None:
        """Change a file as another program would: in place or not, the size stays, and so may the time of its last change."""
        number = random.randrange(FILES)
        path, text = self.path(number), text_of(random.randrange(VARIANTS))
        with self._lock:
            self._history[ReadFile(number)].append(text)
            before = path.stat()
            if random.random() < 0.3:
                other = path.with_suffix(".new")
                other.write_text(text)
                other.replace(path)
            else:
                with path.open("r+b", buffering=0) as file:
                    file.write(text.encode())
            if random.random() < 0.5:
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def change_value(self, random: Random) -> None:
        """Change a value given in Python in place, as its owner may."""
        with self._lock:
            if not self._objects:
                return
            item = random.choice(sorted(self._objects))
            value, new = self._objects[item], offered(item[0], random.randrange(VARIANTS))
            self._history[item].append(new)
            if item[0] == "image":
                value.pixels.fill_(float(new.flat[0]))
            elif item[0] == "ints":
                value[:] = new
            else:
                value["v"][:] = new["v"]

    def forget(self) -> None:
        """Begin with other values given in Python; the histories of files shrink to what they hold now."""
        with self._lock:
            self._objects.clear()
            self._history = {item: history[-1:] for item, history in self._history.items() if isinstance(item, ReadFile)}


class Actor:
    """A thread that does something now and then while a block runs."""

    def __init__(self, actions: list[Callable[[Random], object]], random: Random) -> None:
        self._actions, self._random = actions, random
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._act, name="actor", daemon=True)

    def __enter__(self) -> None:
        if self._actions:
            self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._ended.set()
        if self._actions:
            self._thread.join()

    def _act(self) -> None:
        while not self._ended.wait(self._random.random() * LONGEST_PAUSE):
            with contextlib.suppress(FileNotFoundError):
                self._random.choice(self._actions)(self._random)
