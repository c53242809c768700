"""Shared stores for tests: machines with a cache directory each, and stores that fail when a test wants it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from nodegraph import Engine, Workflow
from nodegraph.cache.store.remote.objects import ObjectInfo, Objects, ObjectsError
from nodegraph.cache.store.remote.tiered_store import TieredStore
from nodegraph.run.events import Notice


class FaultyObjects(Objects):
    """A store that notes each request, and that calls `fault(request, name)` before it; it may raise or wait."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.requests: list[tuple[str, str]] = []
        self.fault: Callable[[str, str], None] = lambda request, name: None

    def _note(self, request: str, name: str) -> None:
        self.requests.append((request, name))
        self.fault(request, name)

    def get(self, name: str) -> tuple[bytes, str] | None:
        self._note("get", name)
        return super().get(name)

    def download(self, name: str, path: Path, size: int | None) -> str | None:
        self._note("download", name)
        return super().download(name, path, size)

    def head(self, name: str) -> ObjectInfo | None:
        self._note("head", name)
        return super().head(name)

    def put(self, name: str, data: bytes) -> None:
        self._note("put", name)
        super().put(name, data)

    def create(self, name: str, data: bytes) -> bool:
        self._note("create", name)
        return super().create(name, data)

    def replace(self, name: str, data: bytes, tag: str) -> bool:
        self._note("replace", name)
        return super().replace(name, data, tag)

    def upload(self, name: str, path: Path) -> None:
        self._note("upload", name)
        super().upload(name, path)

    def delete(self, names: Any) -> None:
        for name in names:
            self._note("delete", name)
        super().delete(names)

    def list(self, prefix: str = "") -> Iterator[ObjectInfo]:
        self._note("list", prefix)
        return super().list(prefix)


WRITES = ("put", "create", "replace", "upload", "delete")


def refuse(*requests: str) -> Callable[[str, str], None]:
    """A fault: these requests are refused."""

    def fault(request: str, name: str) -> None:
        if request in requests:
            raise ObjectsError("no space left in the bucket")

    return fault


def objects_of(engine: Engine) -> FaultyObjects:
    store = engine.cache.store
    assert isinstance(store, TieredStore)
    assert isinstance(store.remote.objects, FaultyObjects)
    return store.remote.objects


def warnings_of(events: list[Any]) -> list[str]:
    """The notices that are about no node."""
    return [event.message for event in events if isinstance(event, Notice) and event.node is None]


def blob_workflow(text: str = "ab") -> Workflow:
    """Text in lower case, and a blob of three items that depends on it."""
    workflow = Workflow("w")
    folded = workflow.add("Fold", name="folded", text=text)
    made = workflow.add("Make", name="made", text=folded, count=3)
    workflow.output("out", made, save="out.bin")
    return workflow
