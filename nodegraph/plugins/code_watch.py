"""Whether the code that runs is still the code that keys name, and which modules were imported that no key covers."""

from __future__ import annotations

import hashlib
import sys
import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

from nodegraph.files import CLOCK_NS, FileState
from nodegraph.plugins.code import Code, is_installed


class CodeWatch:
    """Watches the code of plugins while nodes run. May be used from several threads.

    A module that is imported when it is first needed is read from its file at that time, and a function may read a data file at
    any time. So a module is looked at once it is imported, and data files whenever `changed` is called. A file that was edited
    after its module was imported does no harm: the module that runs is the old one.
    """

    def __init__(self, codes: Mapping[str, Code]) -> None:
        self._lock = threading.Lock()
        self._changed: dict[str, Path] = {}  # by plugin: a file that is not as it was when the keys were made
        self._data: dict[str, list[tuple[str, FileState | None]]] = {}
        self._waiting: dict[str, dict[str, FileState | None]] = {}  # modules that are not imported yet
        self._libraries: dict[str, Mapping[str, FileState | None]] = {}
        self._imports: dict[str, str] = {}
        self._known_modules: set[str] = set()
        self._covered = {path for code in codes.values() for path in code.files}
        loaded = _files_of_modules(sys.modules)
        for plugin, code in codes.items():
            states = {**code.files, **code.libraries}
            if data := [(path, state) for path, state in states.items() if not path.endswith(".py")]:
                self._data[plugin] = data
            self._libraries[plugin] = code.libraries
            self._waiting[plugin] = {path: state for path, state in states.items() if path.endswith(".py") and path not in loaded}
        self._known_modules = set(sys.modules)
        self._module_count = len(self._known_modules)

    def changed(self, plugin: str) -> Path | None:
        """A file of a plugin that was changed since the keys were made and that may have been used since; None if there is none."""
        if len(sys.modules) != self._module_count:
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

    def imports(self) -> Mapping[str, str]:
        """The SHA-256 of each module, by path, that was imported while nodes ran and that is part of no plugin's code."""
        return self._imports

    def _look_at_new_modules(self) -> None:
        with self._lock:
            modules = dict(sys.modules)
            new = _files_of_modules({name: module for name, module in modules.items() if name not in self._known_modules})
            self._known_modules = set(modules)
            self._module_count = len(modules)
            for plugin, waiting in self._waiting.items():
                for path in new & waiting.keys():
                    if _state(path) != waiting.pop(path):
                        self._changed.setdefault(plugin, Path(path))
            self._look_at_libraries(new)
            others = (path for path in new if path.endswith(".py") and path not in self._covered)
            self._imports = {**self._imports, **_digests(path for path in others if not is_installed(Path(path)))}

    def _look_at_libraries(self, new: Iterable[str]) -> None:
        """Note a library that was installed again and of which a module was imported since: its modules are of two versions."""
        for plugin, libraries in self._libraries.items():
            for path, state in libraries.items():
                folder = path.removesuffix("__init__.py")
                if folder != path and _state(path) != state and any(file.startswith(folder) for file in new):
                    self._changed.setdefault(plugin, Path(path))


def _digests(paths: Iterable[str]) -> dict[str, str]:
    """The digests of modules that were just imported. One that was changed meanwhile has a digest that no file has."""
    digests = {}
    for path in paths:
        try:
            state = FileState.of(path)
            digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        except OSError:
            continue
        is_new = max(state.mtime_ns, state.ctime_ns) >= time.time_ns() - CLOCK_NS
        digests[path] = "changed during the import" if is_new else digest
    return digests


def _files_of_modules(modules: Mapping[str, object]) -> set[str]:
    return {file for module in modules.values() if isinstance(file := getattr(module, "__file__", None), str)}


def _state(path: str) -> FileState | None:
    try:
        return FileState.of(path)
    except OSError:
        return None
