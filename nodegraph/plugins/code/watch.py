"""Whether the code that runs is still the code that keys name, and which modules were imported that no key covers."""

from __future__ import annotations

import hashlib
import sys
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from nodegraph.files import CLOCK_NS, FileState
from nodegraph.plugins.code.hidden_loads import watch_hidden_loads
from nodegraph.plugins.code.imports import imported_modules
from nodegraph.plugins.code.installed import MODULE, NOT_THERE, file_found, file_on_disk, is_installed_file
from nodegraph.plugins.code.loads import (
    LOADS,
    PLUGIN_NAMES,
    Load,
    import_times,
    last_loads,
    loaded_files,
    loads_by_nodes,
)
from nodegraph.plugins.code.plugin_code import Code
from nodegraph.plugins.code.running import ENGINE_FOLDER

watch_hidden_loads()

_NOTHING: Mapping[str, str] = {}


class CodeWatch:
    """Watches the code of plugins while nodes run. May be used from several threads.

    A module that is imported when it is first needed, or loaded again, is read from its file at that time, and a function may read
    a data file at any time. So a module is looked at once it was loaded, and data files whenever `changed` is called. A file that
    was edited after its module was imported does no harm: the module that runs is the old one.
    """

    def __init__(
        self, codes: Mapping[str, Code], *, places: Mapping[str, str], start: int, registering: Mapping[str, Iterable[Load]]
    ) -> None:
        """`places` has the names of the plugins by their places (`Origin.place`).

        `start` is the position in `LOADS` at which plugins began to load; `registering`, what each loaded in its hooks.
        """
        self._lock = threading.Lock()
        self._places = places
        # by plugin: a file that is not as it was when the keys were made, or not what was loaded before
        self._changed = {plugin: Path(code.changed) for plugin, code in codes.items() if code.changed is not None}
        self._data: dict[str, list[tuple[str, FileState | None]]] = {}
        self._waiting: dict[str, dict[str, FileState | None]] = {}  # modules that are not imported yet
        self._libraries: dict[str, Mapping[str, FileState | None]] = {}
        self._dynamic = {plugin for plugin, code in codes.items() if code.is_dynamic}
        self._imports: dict[str, dict[str, str]] = {}  # by plugin, whose nodes ran at that time; "" for all of them
        self._found: dict[tuple[str, ...], Mapping[str, str]] = {}  # what `imports` returned since the last look at new modules
        self._known_modules: set[str] = set()
        self._codes = codes
        self._packages = {plugin: tuple(code.packages) for plugin, code in codes.items() if code.packages}
        self._covered = {path for code in codes.values() for path in code.files}
        self._loads = max(start, min((code.position for code in codes.values()), default=start))
        self._new_loads()
        loaded = _files_of_modules(sys.modules)
        self._registering: Mapping[str, Iterable[Load]] | None = registering  # until it is noted, which a cached run does not need
        for plugin, code in codes.items():
            states = {**code.files, **code.libraries}
            if data := [(path, state) for path, state in states.items() if not path.endswith(".py")]:
                self._data[plugin] = data
            self._libraries[plugin] = code.libraries
            self._waiting[plugin] = {path: state for path, state in states.items() if path.endswith(".py") and path not in loaded}
        self._known_modules = set(sys.modules)
        import_times.look()
        self._module_count = -1

    def __repr__(self) -> str:
        return f"<CodeWatch of {', '.join(self._codes)}>"

    def changed(self, plugin: str) -> Path | None:
        """A file of a plugin that was changed since the keys were made and that may have been used since; None if there is none."""
        if len(sys.modules) != self._module_count or len(LOADS) != self._loads:
            self._look_at_new_modules()
        found = self._changed.get(plugin)
        if found is None and plugin in self._data:
            for path, state in self._data[plugin]:
                if _state(path) != state:
                    found = self._changed[plugin] = Path(path)
                    break
        return found

    def imports(self, plugins: tuple[str, ...]) -> Mapping[str, str]:
        """The SHA-256 of each module, by path, that `plugins` may have imported and that is part of no plugin's code.

        These are the modules that were imported while their nodes ran, in this engine or another one, those that a library loaded
        while any node ran, and what these import; `note_rest` finds those that were imported between runs. If one of the plugins
        imports modules by computed names, they are all that this process has imported, by whatever code, except the script that
        runs, the engine and what is installed.
        """
        if len(sys.modules) != self._module_count or len(LOADS) != self._loads:
            self._look_at_new_modules()
        found = self._found.get(plugins)
        if found is None:
            with self._lock:
                found = self._found[plugins] = self._imports_of(plugins)
        return found

    def _imports_of(self, used: tuple[str, ...]) -> Mapping[str, str]:
        """See `imports`."""
        if self._dynamic.isdisjoint(used):
            return {path: digest for plugin in ("", *used) for path, digest in self._imports.get(plugin, _NOTHING).items()}
        by_nodes = {path: digest for digests in self._imports.values() for path, digest in digests.items()}
        names = {**{path: load.name for path, load in last_loads().items()}, **loaded_files()}
        state = _state_of_modules({path: name for path, name in _outside(names).items() if path not in by_nodes})
        covered = {path for plugin in used if plugin in self._codes for path in self._codes[plugin].files}
        return {name: value for name, value in {**state, **by_nodes}.items() if covered.isdisjoint((name, value))}

    def _look_at_new_modules(self) -> None:
        with self._lock:
            modules = dict(sys.modules)
            if self._registering is not None:
                self._note_earlier(self._registering, {name: modules[name] for name in self._known_modules & modules.keys()})
                self._registering = None
            new_modules = {name: module for name, module in modules.items() if name not in self._known_modules}
            new = _files_of_modules(new_modules)
            self._known_modules = set(modules)
            self._module_count = len(modules)
            import_times.look()
            for plugin, waiting in self._waiting.items():
                for path in new & waiting.keys():
                    if _state(path) != waiting.pop(path):
                        self._changed.setdefault(plugin, Path(path))
            self._look_at_libraries(new)
            by_nodes = {name: module for name, module in new_modules.items() if name not in import_times.at_rest}
            names, plugins = _names_by_file(by_nodes), dict[str, tuple[str, ...]]()
            for load in self._new_loads():
                again = [plugin for plugin, digests in self._imports.items() if load.path in digests]
                if load.by_nodes or again:
                    names[load.path] = load.name
                    plugins[load.path] = (*plugins.get(load.path, ()), *self._plugins_of(load), *again)
            self._note_imports(names, plugins)
            self._note_submodules(new_modules)
            self._note_others(new_modules)
            self._found.clear()

    def _note_earlier(self, registering: Mapping[str, Iterable[Load]], modules: Mapping[str, object]) -> None:
        """Note what was loaded before nodes of this engine ran: by hooks, and by nodes of other engines, which may have kept it."""
        for plugin, loads in registering.items():
            self._note_imports({load.path: load.name for load in loads}, {load.path: (plugin,) for load in loads})
        earlier = loads_by_nodes()
        names = {path: load.name for path, load in earlier.items()}
        self._note_imports(names, {path: self._plugins_of(load) for path, load in earlier.items()})
        self._note_submodules(modules)
        self._note_others(modules)

    def _plugins_of(self, load: Load) -> tuple[str, ...]:
        """The plugins that may use a module which was loaded while nodes ran; "" stands for all of them."""
        plugins = tuple(self._places[place] for place in load.by_nodes if place in self._places)
        return (*plugins, "") if load.by_library else plugins

    def _note_submodules(self, modules: Mapping[str, object]) -> None:
        """Note the modules of packages that a plugin imports, whatever code imported them: they are attributes of the package."""
        for plugin, packages in self._packages.items():
            names = {path: name for path, name in _names_by_file(modules).items() if path.startswith(packages)}
            names = {path: name for path, name in names.items() if not self._covers(plugin, path)}
            if names and plugin not in self._dynamic:
                loaded = _outside(loaded_files())
                names |= {path: name for path, name in imported_modules(names).items() if path in loaded}
            self._note(plugin, names)

    def _note_others(self, modules: Mapping[str, object]) -> None:
        """Note modules that a plugin gets by a name in its source, but that are not the files which this name stood for then.

        Another plugin may have a module of the same name in a folder of its own.
        """
        for plugin, code in self._codes.items():
            for name in code.names & modules.keys():
                path = getattr(modules[name], "__file__", None)
                if isinstance(path, str) and (outside := _outside({path: name})) and not self._covers(plugin, *outside):
                    self._note(plugin, outside | ({} if plugin in self._dynamic else imported_modules(outside)))
                    if "." not in name:
                        self._imports[plugin][f"{MODULE}{name}"] = path

    def _note_imports(self, names: Mapping[str, str], plugins: Mapping[str, tuple[str, ...]]) -> None:
        """Note modules, given by file, and what these import, for the plugins that use each.

        A module that is loaded already is not loaded again when another one imports it.
        """
        used: dict[str, dict[str, str]] = {}
        for path, name in _outside(names).items():
            for plugin in plugins.get(path, ("",)):
                if not self._covers(plugin, path):
                    used.setdefault(plugin, {})[path] = name
        for plugin, found in used.items():
            self._note(plugin, found if plugin in self._dynamic else {**imported_modules(found), **found})

    def _note(self, plugin: str, names: Mapping[str, str]) -> None:
        """Note modules, given by file, unless they are in the plugin's code."""
        found = {path: name for path, name in _outside(names).items() if not self._covers(plugin, path)}
        if found:
            self._imports[plugin] = {**self._imports.get(plugin, _NOTHING), **_state_of_modules(found)}

    def _covers(self, plugin: str, path: str) -> bool:
        """Whether the file is in the code of the plugin; for "", in that of any plugin."""
        return path in (self._codes[plugin].files if plugin in self._codes else self._covered)

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


def note_imports() -> None:
    """Note which modules this process has imported before it imports plugins."""
    import_times.look()


def note_rest() -> None:
    """Note that no node runs now: the modules that are new were not imported by a node."""
    if len(sys.modules) != import_times.module_count:
        import_times.look(at_rest=True)


def _state_of_modules(names: Mapping[str, str]) -> dict[str, str]:
    """What results depend on that were computed with these modules, whose names are given by path."""
    return {**_digests(names), **_files_found(names)}


def _digests(names: Mapping[str, str]) -> dict[str, str]:
    """The digests of modules, whose names are given by path. One that may have changed since has a digest that no file has.

    It is known when they were loaded; for those that foreign loaders have loaded, at the earliest.
    """
    last, digests = last_loads(), {}
    for path, name in names.items():
        load = last.get(path)
        if path.startswith(MODULE):
            digests[path] = NOT_THERE
            continue
        try:
            state = FileState.of(path)
            digest = _digest(path, state)
        except OSError:
            if load is not None and load.state is not None:
                digests[path] = "removed since the import"
            continue
        earliest_ns = import_times.earliest(name) - CLOCK_NS if load is None else 0
        is_same = load.is_of(state) if load is not None else not state.changed_since(earliest_ns)
        digests[path] = digest if is_same else "changed since the import"
    return digests


def _files_found(names: Mapping[str, str]) -> dict[str, str]:
    """The files of the top-level modules of these that are found in `sys.path`: a new module may be found instead of them."""
    found: dict[str, str] = {}
    files: dict[str, str | None] = {}
    for path, name in names.items():
        top = name.partition(".")[0]
        if top not in files:
            files[top] = file_found(top)
        file = files[top]
        if file is not None and (file == path or path.startswith(file.removesuffix("__init__.py"))):
            found[f"{MODULE}{top}"] = file
    return found


_known_digests: dict[str, tuple[FileState, str]] = {}


def _digest(path: str, state: FileState) -> str:
    """The digest of the file at `path`, which is in this state. Raises OSError."""
    known = _known_digests.get(path)
    if known is not None and known[0] == state:
        return known[1]
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
    if state.settled(CLOCK_NS) and FileState.of(path) == state:
        _known_digests[path] = state, digest
    return digest


def _names_by_file(modules: Mapping[str, object]) -> dict[str, str]:
    return {file: name for name, module in modules.items() if isinstance(file := getattr(module, "__file__", None), str)}


def _outside(names: Mapping[str, str]) -> dict[str, str]:
    """Of modules by file, those outside of distributions that are not of a plugin in a folder, the engine, or the script itself."""
    script = getattr(sys.modules.get("__main__"), "__file__", None)
    found = {}
    for file, name in names.items():
        is_inside = file == script or file.startswith(ENGINE_FOLDER) or is_installed_file(file)
        if not is_inside and name.partition(".")[0] not in PLUGIN_NAMES:
            found[file_on_disk(file)] = name
    return found


def _files_of_modules(modules: Mapping[str, object]) -> set[str]:
    return {file for module in modules.values() if isinstance(file := getattr(module, "__file__", None), str)}


def _state(path: str) -> FileState | None:
    try:
        return FileState.of(path)
    except OSError:
        return None
