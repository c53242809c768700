"""Which modules Python has loaded from files since the engine was imported, in whatever way.

`sys.modules` does not show modules that were loaded by a path, removed again, or loaded anew. So the loaders of Python, and
`runpy.run_path`, note what they load. Installed modules and those of the engine are left out.
"""

from __future__ import annotations

import functools
import importlib.machinery
import os
import runpy
import threading
import time
import zipimport
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple

from nodegraph.files import CLOCK_NS, FileState
from nodegraph.plugins.code.installed import is_installed_file

ENGINE_FOLDER: Final = f"{Path(__file__).parents[2]}{os.sep}"


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

    def is_of(self, state: FileState) -> bool:
        """Whether the module has what the file contains while it is in this state: no change since can have kept its times."""
        return self.state == state and not state.changed_since(self.time_ns - CLOCK_NS)


LOADS: Final[list[Load]] = []
"""All loads so far; only ever appended to."""


RUNNING: Final[dict[str, int]] = {}
"""How many nodes of each plugin are running, by its name."""


PLUGIN_NAMES: Final[set[str]] = set()
"""The names that the engine gave to the modules of plugins in folders. Each engine loads them anew."""


def loads_in_this_thread(start: int) -> list[Load]:
    """The loads from the position `start` of `LOADS` on that happened in the calling thread."""
    thread = threading.get_ident()
    return [load for load in LOADS[start:] if load.thread == thread]


def _note(name: str, path: str) -> None:
    if path.startswith(ENGINE_FOLDER) or is_installed_file(path):
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


def _noting_run_path(read: Callable[..., Any]) -> Callable[..., Any]:
    """The function of `runpy` that reads a script. Its last argument is the path."""

    @functools.wraps(read)
    def read_script(*arguments: Any) -> Any:
        _note("a script", os.path.abspath(os.fsdecode(arguments[-1])))  # noqa: PTH100
        return read(*arguments)

    return read_script


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
    name = "_get_code_from_file"
    if hasattr(runpy, name) and not hasattr(getattr(runpy, name), "__wrapped__"):
        setattr(runpy, name, _noting_run_path(getattr(runpy, name)))


_watch_loaders()
