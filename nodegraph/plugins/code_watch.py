"""Whether the code that runs is still the code that keys name, and which modules were imported that no key covers."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from nodegraph.files import CLOCK_NS, FileState
from nodegraph.plugins.code import Code
from nodegraph.plugins.installed import file_on_disk, is_installed_file
from nodegraph.plugins.loads import LOADS, Load

_NOTHING: Mapping[str, str] = {}
_NO_HELPERS = ("__main__", "nodegraph", "nodegraph_plugin_")  # the script, the engine, and plugins


class CodeWatch:
    """Watches the code of plugins while nodes run. May be used from several threads.

    A module that is imported when it is first needed, or loaded again, is read from its file at that time, and a function may read
    a data file at any time. So a module is looked at once it was loaded, and data files whenever `changed` is called. A file that
    was edited after its module was imported does no harm: the module that runs is the old one.
    """

    def __init__(self, codes: Mapping[str, Code]) -> None:
        self._lock = threading.Lock()
        self._changed: dict[str, Path] = {}  # by plugin: a file that is not as it was when the keys were made
        self._data: dict[str, list[tuple[str, FileState | None]]] = {}
        self._waiting: dict[str, dict[str, FileState | None]] = {}  # modules that are not imported yet
        self._libraries: dict[str, Mapping[str, FileState | None]] = {}
        self._dynamic = {plugin for plugin, code in codes.items() if code.is_dynamic}
        self._imports: dict[str, dict[str, str]] = {}  # by plugin, whose nodes ran at that time; "" for unknown ones
        self._all_imports: dict[str, str] | None = None  # with those of modules that were there before nodes ran
        self._known_modules: set[str] = set()
        self._codes = codes
        self._own = {path for code in codes.values() for path in code.own}
        self._covered = {path for code in codes.values() for path in code.files}
        self._loads = len(LOADS)
        loaded = _files_of_modules(sys.modules)
        for plugin, code in codes.items():
            states = {**code.files, **code.libraries}
            if data := [(path, state) for path, state in states.items() if not path.endswith(".py")]:
                self._data[plugin] = data
            self._libraries[plugin] = code.libraries
            self._waiting[plugin] = {path: state for path, state in states.items() if path.endswith(".py") and path not in loaded}
        self._known_modules = set(sys.modules)
        _import_times.look()
        self._module_count = len(self._known_modules)

    def changed(self, plugin: str) -> Path | None:
        """A file of a plugin that was changed since the keys were made and that may have been used since; None if there is none."""
        if len(sys.modules) != self._module_count or len(LOADS) != self._loads:
            self._look_at_new_modules()
        if plugin not in self._data:
            return self._changed.get(plugin)
        found = self._changed.get(plugin)
        if found is None:
            for path, state in self._data[plugin]:
                if _state(path) != state:
                    found = self._changed[plugin] = Path(path)
                    break
        return found

    def imports(self, plugins: Iterable[str]) -> Mapping[str, str]:
        """The SHA-256 of each module, by path, that `plugins` may have imported and that is part of no plugin's code.

        These are the modules that were imported while their nodes ran; `note_rest` finds those that were imported between runs.
        If one of the plugins imports modules by computed names, they are all that this process has imported, by whatever code,
        except the script that runs, the engine and what is installed.
        """
        if len(sys.modules) != self._module_count or len(LOADS) != self._loads:
            self._look_at_new_modules()
        if self._dynamic.isdisjoint(used := tuple(plugins)):
            if not self._imports:
                return _NOTHING
            return {path: digest for plugin in ("", *used) for path, digest in self._imports.get(plugin, _NOTHING).items()}
        with self._lock:
            if self._all_imports is None:
                by_nodes = {path: digest for digests in self._imports.values() for path, digest in digests.items()}
                names = _outside(_names_by_file(dict(sys.modules)))
                others = {path: name for path, name in names.items() if path not in self._own}
                digests = _digests({path: name for path, name in others.items() if path not in by_nodes})
                self._all_imports = {**digests, **by_nodes}
            covered = {path for plugin in used if plugin in self._codes for path in self._codes[plugin].files}
            return {path: digest for path, digest in self._all_imports.items() if path not in covered}

    def _look_at_new_modules(self) -> None:
        with self._lock:
            modules = dict(sys.modules)
            new_modules = {name: module for name, module in modules.items() if name not in self._known_modules}
            new = _files_of_modules(new_modules)
            self._known_modules = set(modules)
            self._module_count = len(modules)
            _import_times.look()
            for plugin, waiting in self._waiting.items():
                for path in new & waiting.keys():
                    if _state(path) != waiting.pop(path):
                        self._changed.setdefault(plugin, Path(path))
            self._look_at_libraries(new)
            by_nodes = {name: module for name, module in new_modules.items() if name not in _import_times.at_rest}
            names, loads = _names_by_file(by_nodes), self._new_loads()
            plugins = {load.path: load.by_nodes for load in loads}
            names.update((load.path, load.name) for load in loads if load.by_nodes)
            outside = {path: name for path, name in _outside(names).items() if path not in self._covered}
            for path, digest in _digests(outside, loads).items():
                for plugin in plugins.get(path, ("",)):
                    self._imports[plugin] = {**self._imports.get(plugin, _NOTHING), path: digest}
            self._all_imports = None

    def _new_loads(self) -> list[Load]:
        """The loads since the last look. Notes a plugin of which code was loaded from another state of its file."""
        loads = LOADS[self._loads :]
        self._loads += len(loads)
        for load in loads:
            for plugin, code in self._codes.items():
                if load.path in code.files and code.files[load.path] != load.state:
                    self._changed.setdefault(plugin, Path(load.path))
        return loads

    def _look_at_libraries(self, new: Iterable[str]) -> None:
        """Note a library that was installed again and of which a module was imported since: its modules are of two versions."""
        for plugin, libraries in self._libraries.items():
            for path, state in libraries.items():
                folder = path.removesuffix("__init__.py")
                if folder != path and _state(path) != state and any(file.startswith(folder) for file in new):
                    self._changed.setdefault(plugin, Path(path))


class _ImportTimes:
    """When this process imported each module, at the earliest. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._earliest: dict[str, int] = {}
        self.at_rest: set[str] = set()  # imported while no node ran
        self.module_count = 0
        self._looked_ns = time.time_ns()  # modules that were imported before are as old as this one, nearly the whole process

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
        return self._earliest.get(name, self._looked_ns)


_import_times = _ImportTimes()


def note_imports() -> None:
    """Note which modules this process has imported before it imports plugins."""
    _import_times.look()


def note_rest() -> None:
    """Note that no node runs now: the modules that are new were not imported by a node."""
    if len(sys.modules) != _import_times.module_count:
        _import_times.look(at_rest=True)


def _digests(names: Mapping[str, str], loads: Iterable[Load] = LOADS) -> dict[str, str]:
    """The digests of modules, whose names are given by path. One that may have changed since has a digest that no file has.

    `loads` tell when they were loaded; for others, which foreign loaders have loaded, the time at the earliest is known.
    """
    last = {load.path: load for load in loads}
    digests = {}
    for path, name in names.items():
        try:
            state = FileState.of(path)
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError:
            continue
        load = last.get(path)
        loaded_ns = _import_times.earliest(name) if load is None else load.time_ns
        is_new = max(state.mtime_ns, state.ctime_ns) >= loaded_ns - CLOCK_NS or (load is not None and load.state != state)
        digests[path] = "changed since the import" if is_new else digest
    return digests


def _names_by_file(modules: Mapping[str, object]) -> dict[str, str]:
    return {file: name for name, module in modules.items() if isinstance(file := getattr(module, "__file__", None), str)}


def _outside(names: Mapping[str, str]) -> dict[str, str]:
    """Of modules by file, those that are of no plugin, no distribution and not of the engine, and not the script that runs."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    found = {}
    for file, name in names.items():
        top = name.partition(".")[0]
        if file != script and not is_installed_file(file) and not (top in _NO_HELPERS or top.startswith(_NO_HELPERS[-1])):
            found[file_on_disk(file)] = name
    return found


def _files_of_modules(modules: Mapping[str, object]) -> set[str]:
    return {file for module in modules.values() if isinstance(file := getattr(module, "__file__", None), str)}


def _state(path: str) -> FileState | None:
    try:
        return FileState.of(path)
    except OSError:
        return None
