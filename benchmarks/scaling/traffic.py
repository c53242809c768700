"""Bytes and requests for each unit: in messages, in the cache folder, and to a shared store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from unittest import mock

from benchmarks.scaling.sweeps import NODES, UNITS, numbers, swept, workflow
from nodegraph import Engine, sweep
from nodegraph.cache.store.remote import objects, tiered_store
from nodegraph.run.workers.ray import workers as ray_workers
from nodegraph.run.workers.ray.units import Unit


def bytes_moved(engine: Engine, folder: Path) -> dict[str, float]:
    """Bytes for each unit: in messages to and from an actor, and in the cache folder."""
    sizes: Counter[str] = Counter()

    class Counted(Unit):
        def __post_init__(self) -> None:
            super().__post_init__()
            sizes["to_worker"] += len(self.pickled)

        def end(self, result: Any) -> None:
            sizes["from_worker"] += len(ray_workers.pickle.dumps(result))
            super().end(result)

    assert engine.cache_dir is not None
    with mock.patch.object(ray_workers, "Unit", Counted):
        before = size_of(engine.cache_dir)
        swept(engine, workflow(folder), UNITS, folder)
        sizes["cache_folder"] = size_of(engine.cache_dir) - before
    return {name: size / UNITS for name, size in sizes.items()}


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def requests(folder: Path) -> dict[str, Mapping[str, float]]:
    """Requests to a shared store, a folder, and bytes: for a unit that is computed, and for one that is found there.

    They are read when the engine has closed: it writes in the background.
    """
    done: Counter[str] = Counter()

    class Counted(objects.Objects):
        pass

    def counted(kind: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def request(self: Any, *arguments: Any, **keywords: Any) -> Any:
            done[kind] += 1
            return original(self, *arguments, **keywords)

        return request

    kinds = {"reads": ("get", "head", "download"), "writes": ("put", "create", "replace", "upload", "list"), "deletes": ("delete",)}
    for kind, methods in kinds.items():
        for method in methods:
            setattr(Counted, method, counted(kind, getattr(objects.Objects, method)))
    store = folder / "store"
    store.mkdir()
    points = [next(numbers) for _ in range(UNITS)]
    found = {}
    with mock.patch.object(tiered_store, "Objects", Counted):
        for name in ("computed", "found"):
            made = Engine(
                folder / name, device="cpu", plugin_dirs=[NODES], on_event=lambda event: None, cache_remote=store.as_uri()
            )
            with made as engine:
                engine.run(workflow(folder), params={"number": next(numbers)})
                done.clear()
                before = size_of(store)
                sweep(workflow(folder), {"number": points}, engine=engine, out=folder / f"out of {name}")
            found[name] = {kind: done[kind] / UNITS for kind in kinds} | {"bytes": (size_of(store) - before) / UNITS}
    return found
