"""Which modules Python has loaded from files since the engine was imported, in whatever way.

`sys.modules` does not show modules that were loaded by a path, removed again, or loaded anew. So the loaders of Python note what
they load. Installed modules and those of the engine are left out.
"""

from __future__ import annotations

import functools
import importlib.machinery
import os
import threading
import time
import zipimport
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from nodegraph.files import FileState
from nodegraph.plugins.installed import is_installed_file

_ENGINE: Final = "nodegraph."


class Load(NamedTuple):
    """The name and the file of a module, what the file was just before it was read, and when that was.

    `thread` is where that happened. `by_nodes`: the plugins of the nodes that were running.
    """

    name: str
    path: str
    stat: os.stat_result | None
    time_ns: int
    thread: int
    by_nodes: tuple[str, ...]

    @property
    def state(self) -> FileState | None:
        return None if self.stat is None else FileState.from_stat(self.stat)


LOADS: Final[list[Load]] = []
"""All loads so far; only ever appended to."""


RUNNING: Final[dict[str, int]] = {}
"""How many nodes of each plugin are running, by its name."""


def loads_in_this_thread(start: int) -> list[Load]:
    """The loads from the position `start` of `LOADS` on that happened in the calling thread."""
    thread = threading.get_ident()
    return [load for load in LOADS[start:] if load.thread == thread]


def _note(name: str, path: str) -> None:
    if name.startswith(_ENGINE) or is_installed_file(path):
        return
    try:
        stat = os.stat(path)  # noqa: PTH116 (it makes no path object)
    except OSError:
        stat = None
    LOADS.append(Load(name, path, stat, time.time_ns(), threading.get_ident(), tuple(RUNNING)))


def _noting(method: Callable[..., Any], attribute: str) -> Callable[..., Any]:
    """`method` of a loader, which has the file in this attribute. The argument is the name of the module, or its spec."""

    @functools.wraps(method)
    def load(self: Any, module: Any, *arguments: Any) -> Any:
        _note(str(getattr(module, "name", module)), str(getattr(self, attribute, "")))
        return method(self, module, *arguments)

    return load


def _watch_loaders() -> None:
    machinery: Any = importlib.machinery
    source_loader = next(kind for kind in machinery.SourceFileLoader.__mro__ if "get_code" in vars(kind))
    for kind, method, attribute in (
        (source_loader, "get_code", "path"),
        (machinery.SourcelessFileLoader, "get_code", "path"),
        (machinery.ExtensionFileLoader, "create_module", "path"),
        (zipimport.zipimporter, "get_code", "archive"),
    ):
        if not hasattr(getattr(kind, method), "__wrapped__"):
            setattr(kind, method, _noting(getattr(kind, method), attribute))


_watch_loaders()
