"""Which modules Python has loaded from files, when, in whatever way, and whether they have what their files contain now.

`sys.modules` does not show modules that were loaded by a path, removed again, or loaded anew. So the loaders of Python, and
`runpy.run_path`, note what they load. Installed modules and those of the engine are left out.
"""

from __future__ import annotations

import functools
import importlib.machinery
import os
import runpy
import sys
import threading
import time
import zipimport
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from nodegraph.files import CLOCK_NS, FileState
from nodegraph.plugins.code.installed import is_installed_file
from nodegraph.plugins.code.running import ENGINE_FOLDER, is_library_running, plugins_of_running_nodes

_OPTIMIZED: Final = f".opt-{sys.flags.optimize}" if sys.flags.optimize else ""
_BYTECODE: Final = f".{sys.implementation.cache_tag}{_OPTIMIZED}.pyc"


class Load(NamedTuple):
    """The name and the file of a module, what the file was just before it was read, and when that was.

    `thread` is where that happened. `by_nodes`: the places of the plugins of the nodes that were running. `by_library`: one was
    running, and an installed library loaded the module, which other plugins may get from it, too.
    """

    name: str
    path: str
    state: FileState | None
    time_ns: int
    thread: int
    by_nodes: tuple[str, ...]
    by_library: bool

    def is_of(self, state: FileState) -> bool:
        """Whether the module has what the file contains while it is in this state: no change since can have kept its times."""
        return self.state == state and not state.changed_since(self.time_ns - CLOCK_NS)


LOADS: Final[list[Load]] = []
"""All loads so far; only ever appended to."""


PLUGIN_NAMES: Final[set[str]] = set()
"""The names that the engine gave to the modules of plugins in folders. Each engine loads them anew."""


def loads_in_this_thread(start: int) -> list[Load]:
    """The loads from the position `start` of `LOADS` on that happened in the calling thread."""
    thread = threading.get_ident()
    return [load for load in LOADS[start:] if load.thread == thread]


def note_load(name: str, path: str) -> FileState | None:
    """Note a load. Returns the state of the file, unless it is left out."""
    if path.startswith(ENGINE_FOLDER) or is_installed_file(path):
        return None
    try:
        state = FileState.of(path)
    except OSError:
        state = None
    by_nodes = plugins_of_running_nodes()
    by_library = bool(by_nodes) and is_library_running()
    LOADS.append(Load(name, path, state, time.time_ns(), threading.get_ident(), by_nodes, by_library))
    return state


def _noting_source(get_code: Callable[..., Any]) -> Callable[..., Any]:
    """`get_code` of the loader of sources, which takes no bytecode that is older than the source.

    Python compares the second and the size of the source only, which may be the same after a quick edit.
    """

    @functools.wraps(get_code)
    def load(self: Any, name: Any, *arguments: Any) -> Any:
        path = str(getattr(self, "path", ""))
        state = note_load(str(name), path)
        if state is not None and path.endswith(".py"):
            folder, _, file = path.rpartition(os.sep)
            bytecode = f"{folder}{os.sep}__pycache__{os.sep}{file[:-3]}{_BYTECODE}"
            try:
                is_stale = os.stat(bytecode).st_mtime_ns <= state.mtime_ns  # noqa: PTH116 (it makes no path object)
            except OSError:
                is_stale = False
            if is_stale:
                self.get_data = _reading_all_but(bytecode, self.get_data)
        return get_code(self, name, *arguments)

    return load


def _reading_all_but(bytecode: str, read: Callable[[str], bytes]) -> Callable[[str], bytes]:
    """`read`, but the file `bytecode` seems to be missing, so that Python compiles the source and writes it again."""

    def get_data(path: str) -> bytes:
        if path == bytecode:
            raise FileNotFoundError(path)
        return read(path)

    return get_data


def _noting(method: Callable[..., Any], attribute: str) -> Callable[..., Any]:
    """`method` of a loader, which has the file in this attribute. The argument is the name of the module, or its spec."""

    @functools.wraps(method)
    def load(self: Any, module: Any, *arguments: Any) -> Any:
        note_load(str(getattr(module, "name", module)), str(getattr(self, attribute, "")))
        return method(self, module, *arguments)

    return load


def _noting_run_path(read: Callable[..., Any]) -> Callable[..., Any]:
    """The function of `runpy` that reads a script. Its last argument is the path."""

    @functools.wraps(read)
    def read_script(*arguments: Any) -> Any:
        note_load("a script", os.path.abspath(os.fsdecode(arguments[-1])))  # noqa: PTH100
        return read(*arguments)

    return read_script


def _watch_loaders() -> None:
    machinery: Any = importlib.machinery
    source_loader: Any = next(kind for kind in machinery.SourceFileLoader.__mro__ if "get_code" in vars(kind))
    if not hasattr(source_loader.get_code, "__wrapped__"):
        source_loader.get_code = _noting_source(source_loader.get_code)
    for kind, method, attribute in (
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


_started_ns = time.time_ns()


@functools.cache
def process_start_ns() -> int:
    """When this process started. Where the system does not tell, when it imported the engine."""
    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(fields[19]) * 10**9 // os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return _started_ns
    return min(_started_ns, time.time_ns() - age_ns)


class ImportTimes:
    """When this process imported each module, at the earliest. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._earliest: dict[str, int] = {}
        self.at_rest: set[str] = set()  # imported while no node ran
        self.module_count = 0
        self._looked_ns = 0  # modules that were imported before the first look may be as old as the process

    def look(self, *, at_rest: bool = False) -> None:
        """Note that all modules that are new have been imported since the last look; `at_rest`: no node has run since."""
        with self._lock:
            now = time.time_ns()
            modules = set(sys.modules)
            for name in self._earliest.keys() - modules:  # may be imported again
                del self._earliest[name]
                self.at_rest.discard(name)
            new = modules - self._earliest.keys()
            self._earliest.update(dict.fromkeys(new, self._looked_ns))
            if at_rest:
                self.at_rest |= new
            self._looked_ns = now
            self.module_count = len(modules)

    def earliest(self, name: str) -> int:
        """The earliest time, in nanoseconds, at which the module called `name` can have been imported."""
        return self._earliest.get(name, self._looked_ns) or process_start_ns()

    def was_before(self, name: str) -> bool:
        """Whether the module was imported before the first look, so that its load was not noted."""
        return not self._earliest.get(name, self._looked_ns)


import_times = ImportTimes()
import_times.look()


class _LoadedStates:
    """From which states of its file each module was loaded, and what the file contained. May be used from several threads.

    A module that was loaded anew may live on in its earlier states: other modules keep functions of it. So all of them count.
    Modules of plugins in folders do not: each engine loads these anew, with all that use them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._position = 0
        self._last: dict[str, Load] = {}
        self._states: dict[str, dict[FileState | None, list[Any]]] = {}  # time and digest
        self._by_nodes: dict[str, Load] = {}  # with the plugins of all nodes that have loaded it

    def have(self, path: str, state: FileState, digest: str) -> bool | None:
        """Whether each load of the file at `path`, now in this state, read content with this digest. None: it was never loaded."""
        if self._position != len(LOADS):
            self._add_loads()
        states = self._states.get(path)
        if states is None:
            return None
        known = states.get(state)
        if known is not None and not state.changed_since(known[0] - CLOCK_NS):
            known[1] = digest
            if len(states) == 1:
                return True
        return all(known[1] == digest for known in states.values())

    def last(self) -> Mapping[str, Load]:
        """The last load of each file, without those of plugins in folders."""
        self._add_loads()
        return self._last.copy()

    def by_nodes(self) -> Mapping[str, Load]:
        """The modules that were loaded while nodes ran, by path, each with the plugins of all these nodes."""
        self._add_loads()
        return self._by_nodes.copy()

    def _add_loads(self) -> None:
        with self._lock:
            loads = LOADS[self._position :]
            for load in loads:
                if not PLUGIN_NAMES or load.name.partition(".")[0] not in PLUGIN_NAMES:
                    self._last[load.path] = load
                    if load.by_nodes:
                        known_load = self._by_nodes.get(load.path, load)
                        self._by_nodes[load.path] = load._replace(
                            by_nodes=tuple({*known_load.by_nodes, *load.by_nodes}),
                            by_library=known_load.by_library or load.by_library,
                        )
                    self._states.setdefault(load.path, {}).setdefault(load.state, [load.time_ns, None])
            self._position += len(loads)


_loaded_states = _LoadedStates()


def last_loads() -> Mapping[str, Load]:
    """The last load of each file, without those of plugins in folders."""
    return _loaded_states.last()


def loads_by_nodes() -> Mapping[str, Load]:
    """The modules that were loaded while nodes ran, by path, each with the plugins of all these nodes."""
    return _loaded_states.by_nodes()


def loaded_files(package: str | None = None) -> dict[str, str]:
    """The names of all modules in `sys.modules`, or of those in a package, by file. Those of plugins in folders are left out."""
    found = {}
    for name, module in sys.modules.copy().items():
        if package is None or name.startswith(package):
            file = getattr(module, "__file__", None)
            if isinstance(file, str) and not (PLUGIN_NAMES and name.partition(".")[0] in PLUGIN_NAMES):
                found[file] = name
    return found


def has_read(name: str, path: str, state: FileState, digest: str) -> bool:
    """Whether the module called `name`, which is loaded, has what its file contains, which is in this state and has this digest."""
    known = _loaded_states.have(path, state, digest)
    if known is None or import_times.was_before(name):  # else its first load was noted, unless its loader is not Python's
        return known is not False and not state.changed_since(import_times.earliest(name) - CLOCK_NS)
    return known
