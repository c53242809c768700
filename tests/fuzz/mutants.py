"""Faults to put into the engine, one for each protection of the cache: the fuzz test must find each of them.

`python -m tests.fuzz --mutants` runs graphs with each fault until it is found.
"""

from __future__ import annotations

import contextlib
import functools
import mmap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from nodegraph.cache import file_digests, keys, snapshots, taker
from nodegraph.cache.store import blobs, store
from nodegraph.files import FileState
from nodegraph.run import known_results, result
from nodegraph.run.node import inputs, process_state, run_node

MUTANTS: dict[str, Callable[[], None]] = {}


def mutant(function: Callable[[], None]) -> Callable[[], None]:
    MUTANTS[function.__name__] = function
    return function


def wrap(owner: Any, name: str, make: Callable[[Any], Callable[..., Any]]) -> None:
    """Replace a function by what `make` makes of it."""
    setattr(owner, name, make(getattr(owner, name)))


@mutant
def readers_share_the_producers_object() -> None:
    def make(take: Any) -> Any:
        def take_file(self: Any, value: Any, codec: Any) -> Any:
            taken = take(self, value, codec)
            taken[0].open = lambda: value
            return taken

        return take_file

    wrap(taker.Taker, "_take_file", make)


@mutant
def readers_share_lists_and_mappings() -> None:
    def make(take: Any) -> Any:
        def take_json(self: Any, value: Any, codec: Any) -> Any:
            taken = take(self, value, codec)
            taken.open = lambda: value
            return taken

        return take_json

    wrap(taker.Taker, "_take_json", make)


@mutant
def readers_share_lists_of_pictures() -> None:
    wrap(snapshots.Parts, "open", _once_for_each_object)


@mutant
def callers_share_results() -> None:
    def make(get: Any) -> Any:
        def get_once(self: Any, wanted: Any) -> Any:
            known = self.__dict__.setdefault("_known", {})
            if wanted not in known:
                known[wanted] = get(self, wanted)
            return known[wanted]

        return get_once

    wrap(result.Result, "__getitem__", make)


@mutant
def values_of_the_caller_are_not_copied() -> None:
    inputs._own_copy = lambda input, cache: input.value


@mutant
def maps_write_to_the_file() -> None:
    from nodegraph_nodes import codecs

    class Writing:
        """The module `mmap`, with maps that write through."""

        ACCESS_COPY = mmap.ACCESS_WRITE

        @staticmethod
        def mmap(descriptor: int, length: int, access: int) -> mmap.mmap:
            with Path(f"/proc/self/fd/{descriptor}").open("r+b") as file:
                return mmap.mmap(file.fileno(), length, access=access)

    codecs.mmap = Writing  # type: ignore[assignment]


@mutant
def versions_of_models_are_not_compared() -> None:
    from nodegraph_nodes.models.backend import TorchBackend

    TorchBackend.version = lambda self, value: None  # type: ignore[method-assign]


@mutant
def draws_are_not_noticed() -> None:
    def make(leave: Any) -> Any:
        def leave_without_look(self: Any, *error: Any) -> None:
            leave(self, *error)
            self.drew = False

        return leave_without_look

    wrap(process_state.ProcessWatch, "__exit__", make)


@mutant
def nodes_below_a_draw_have_aliases() -> None:
    known_results.KnownResults._follows_from_unkeyed = lambda self, name: False  # type: ignore[method-assign]


@mutant
def switches_are_left_as_they_are() -> None:
    from nodegraph_nodes.models.backend import TorchBackend

    TorchBackend.known_state = lambda self: contextlib.nullcontext()  # type: ignore[method-assign]


@mutant
def a_retry_uses_the_same_arguments() -> None:
    def make(compute: Any) -> Any:
        def compute_with_old(spec: Any, arguments: Any, run: Any, context: Any, *, read_again: Any) -> Any:
            before = dict(arguments)
            return compute(spec, arguments, run, context, read_again=lambda: before)

        return compute_with_old

    wrap(run_node, "compute", make)


@mutant
def files_are_not_looked_at_again() -> None:
    run_node.files_changed = lambda task, before, context: False


@mutant
def files_are_known_by_size_and_mtime() -> None:
    """This concerns the remembered digests of input files only: with it, all code would seem changed, and nothing would be kept."""

    class TimeAndSize(FileState):
        @classmethod
        def from_stat(cls, stat: Any) -> TimeAndSize:
            return cls(device=stat.st_dev, inode=stat.st_ino, size=stat.st_size, mtime_ns=stat.st_mtime_ns, ctime_ns=0)

        def settled(self, granularity_ns: int) -> bool:
            return True

    file_digests.FileState = TimeAndSize  # type: ignore[misc]


@mutant
def zeros_have_no_sign_in_keys() -> None:
    wrap(keys, "tagged", lambda tagged: lambda value: tagged(value + 0.0 if type(value) is float else value))


@mutant
def two_numbers_have_one_key() -> None:
    wrap(keys, "tagged", lambda tagged: lambda value: tagged(value // 2 if type(value) is int else value))


@mutant
def content_of_blobs_is_not_compared() -> None:
    def check(self: Any, name: str) -> tuple[Path, FileState]:
        found: Path = self._layout.blob(name)
        try:
            return found, FileState.of(found)
        except FileNotFoundError:
            raise store.LostResultError(f"{found} is gone") from None

    blobs.Blobs._check = check  # type: ignore[method-assign]


@mutant
def blobs_are_written_in_place() -> None:
    def make(move: Any) -> Any:
        def copy_slowly(temporary: Path, path: Path) -> None:
            data = temporary.read_bytes()
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("wb", buffering=0) as file:
                file.write(data[: len(data) // 2])
                time.sleep(0.02)
                file.write(data[len(data) // 2 :])

        return copy_slowly

    wrap(blobs, "move", make)


@mutant
def records_are_written_before_blobs() -> None:
    """The file of a blob gets its name only some time after the record."""
    waiting: list[tuple[int, Path, Path]] = []  # each with its thread

    def move_later(temporary: Path, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        other = path.parent.parent.parent / "tmp" / f"{temporary.name}.waiting"
        temporary.replace(other)
        waiting.append((threading.get_ident(), other, path))

    def make_check(check: Any) -> Any:
        def check_waiting(self: Any, name: str) -> Any:
            target = self._layout.blob(name)
            found = next((other for _, other, wanted in list(waiting) if wanted == target), None)
            with contextlib.suppress(FileNotFoundError):
                if found is not None:
                    return found, FileState.of(found)
            return check(self, name)

        return check_waiting

    def make_put(put: Any) -> Any:
        def put_record(self: Any, record: Any) -> None:
            put(self, record)
            time.sleep(0.02)
            for entry in [entry for entry in waiting if entry[0] == threading.get_ident()]:
                with contextlib.suppress(FileNotFoundError):
                    entry[1].replace(entry[2])
                waiting.remove(entry)

        return put_record

    blobs.move = move_later
    wrap(blobs.Blobs, "_check", make_check)
    wrap(store.Store, "put_record", make_put)


def _once_for_each_object(open_value: Any) -> Any:
    @functools.wraps(open_value)
    def open_once(self: Any) -> Any:
        if "_opened" not in self.__dict__:
            self._opened = open_value(self)
        return self._opened

    return open_once
