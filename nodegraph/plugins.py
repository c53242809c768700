"""Finding plugins and building the plugin manager: nothing global, one `Plugins` for each engine.

A plugin is a module with hook implementations. It is found by an entry point of the group `nodegraph`, or as a file or package in a
folder that the user names. One that cannot be loaded is kept with the reason; it never goes unmentioned.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import importlib.util
import json
import os
import sys
import time
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pluggy

from nodegraph import hookspecs
from nodegraph.codecs import Codecs
from nodegraph.errors import PluginError
from nodegraph.registry import Entry, Origin, Registry, did_you_mean
from nodegraph.spec import NodeSpec, spec_of

GROUP = "nodegraph"
PLUGIN_DIR_VARIABLE = "NODEGRAPH_PLUGIN_DIR"
INCLUDES = "__nodegraph_includes__"
"""A plugin module's attribute: further packages whose code counts as the plugin's own when it is installed editable."""

_REGISTER = "register_"
_NOT_REGISTRIES = {"nodes", "codecs", "commands"}
_NOT_CODE = {".safetensors", ".pyc"}  # weights are told apart by their own digest, where they are read


@dataclass(frozen=True)
class LoadedPlugin:
    """A plugin that was found: where, what its import cost, and why it could not be used, if so.

    `fatal`: it clashes with another one or registers something unusable, so that nothing may run beside it.
    """

    name: str
    place: str
    origin: Origin | None = None
    seconds: float = 0.0
    error: str | None = None
    fatal: bool = False
    module: types.ModuleType | None = None


class Plugins:
    """The plugins of one engine, and what they registered."""

    def __init__(self, plugin_dirs: Sequence[Path | str] = ()) -> None:
        self.manager = pluggy.PluginManager("nodegraph")
        self.manager.add_hookspecs(hookspecs)
        self.nodes: Registry[NodeSpec] = Registry("nodes")
        self.codecs = Codecs()
        self.manager.hook.add_hooks.call_historic(kwargs={"pluginmanager": self.manager})
        found = [self._register(plugin) for plugin in (*_from_entry_points(), *_from_folders(plugin_dirs))]
        self.registries = self._make_registries()  # now that each plugin has added its hooks
        self.loaded = tuple(self._fill(self._refuse_unknown_hooks(plugin)) for plugin in found)

    def origin(self, name: str) -> Origin | None:
        """Where the plugin called `name` came from."""
        return next((plugin.origin for plugin in self.loaded if plugin.name == name), None)

    def broken(self) -> list[LoadedPlugin]:
        return [plugin for plugin in self.loaded if plugin.error]

    def require_sound(self) -> None:
        """Raise PluginError where plugins clash or registered something unusable."""
        fatal = [plugin for plugin in self.loaded if plugin.fatal]
        if fatal:
            raise PluginError("\n".join(str(plugin.error) for plugin in fatal))

    # --- loading

    def _register(self, plugin: LoadedPlugin) -> LoadedPlugin:
        if plugin.error is not None:
            return plugin
        try:
            self.manager.register(plugin.module, plugin.name)
        except (ValueError, pluggy.PluginValidationError) as error:
            return replace(plugin, error=f"[E303] plugin '{plugin.name}' ({plugin.place}): {error}", fatal=True)
        return plugin

    def _make_registries(self) -> dict[str, Registry[Any]]:
        kinds = (name.removeprefix(_REGISTER) for name in vars(self.manager.hook) if name.startswith(_REGISTER))
        return {kind: Registry(kind) for kind in kinds if kind not in _NOT_REGISTRIES}

    def _refuse_unknown_hooks(self, plugin: LoadedPlugin) -> LoadedPlugin:
        """A misspelt hook would never be called, and nobody would know why."""
        known = {name for name, hook in vars(self.manager.hook).items() if getattr(hook, "spec", None)}
        for hook in self.manager.get_hookcallers(plugin.module) or ():
            if hook.name not in known:
                self.manager.unregister(plugin.module)
                hint = did_you_mean(hook.name, known) or f"The hooks are {', '.join(sorted(known))}."
                message = f"[E303] plugin '{plugin.name}' ({plugin.place}) implements '{hook.name}', which is no hook. {hint}"
                return replace(plugin, error=message, fatal=True)
        return plugin

    def _fill(self, plugin: LoadedPlugin) -> LoadedPlugin:
        """Call the plugin's own `register_...` hooks, so that each thing is known by where it came from."""
        if plugin.error is not None or plugin.origin is None:  # an origin is there unless loading failed
            return plugin
        origin = plugin.origin
        for hook in self.manager.get_hookcallers(plugin.module) or ():
            kind = hook.name.removeprefix(_REGISTER)
            if not hook.name.startswith(_REGISTER) or kind == "commands":
                continue
            register = self._registrar(kind, origin)
            try:
                for implementation in hook.get_hookimpls():
                    if implementation.plugin is plugin.module:
                        implementation.function(*(register for _ in implementation.argnames))
            except PluginError as error:
                return replace(plugin, error=str(error), fatal=True)
            except Exception as error:
                message = f"[E303] plugin '{plugin.name}' ({plugin.place}), in {hook.name}: {_said(error)}"
                return replace(plugin, error=message, fatal=True)
        return plugin

    def _registrar(self, kind: str, origin: Origin) -> Callable[..., None]:
        if kind == "codecs":
            return lambda type_, codec: self.codecs.add(type_, codec, origin)
        if kind == "nodes":

            def register_node(function: Callable[..., Any]) -> None:
                spec = spec_of(function)
                self.nodes.add(Entry(spec.name, spec, origin))

            return register_node

        def register(name: str, value: Any, **meta: Any) -> None:
            self.registries[kind].add(Entry(name, value, origin, meta))

        return register


def load_plugins(plugin_dirs: Sequence[Path | str] = ()) -> Plugins:
    """The plugins of the installed entry points, of `plugin_dirs`, and of the folders in NODEGRAPH_PLUGIN_DIR."""
    from_environment = os.environ.get(PLUGIN_DIR_VARIABLE, "")
    return Plugins([*plugin_dirs, *(part for part in from_environment.split(os.pathsep) if part)])


def _from_entry_points() -> Iterator[LoadedPlugin]:
    seen: set[str] = set()
    for point in sorted(importlib.metadata.entry_points(group=GROUP), key=lambda p: p.value):
        name = point.module.partition(".")[0]
        if name in seen:  # an editable install and its sources on the path name the same entry point
            continue
        seen.add(name)
        started = time.perf_counter()
        dist = point.dist
        place = f"{dist.name} {dist.version}" if dist else point.value
        try:
            module = importlib.import_module(point.module)
            digest = tree_digest(_package_places(name, module)) if dist is None or _is_editable(dist) else None
        except Exception as error:
            yield LoadedPlugin(name, place, error=f"[E304] plugin '{name}' ({place}) cannot be loaded: {_said(error)}")
            continue
        origin = Origin(name, dist.version if dist else "0", digest, f"{place}, editable" if digest else place)
        yield LoadedPlugin(name, origin.place, origin, time.perf_counter() - started, module=module)


def _from_folders(folders: Sequence[Path | str]) -> Iterator[LoadedPlugin]:
    for folder in dict.fromkeys(Path(f).expanduser().resolve() for f in folders):
        if not folder.is_dir():
            message = f"[E304] there is no plugin folder {folder}. Name a folder that holds .py files or packages"
            yield LoadedPlugin(folder.name, str(folder), error=message, fatal=True)
            continue
        for path in sorted(folder.iterdir()):
            if path.name.startswith(("_", ".")):
                continue
            if path.suffix == ".py" and path.is_file():
                yield _load_file(path.stem, path, [path])
            elif (path / "__init__.py").is_file():
                yield _load_file(path.name, path / "__init__.py", [path])


def _load_file(name: str, path: Path, counts: Sequence[Path]) -> LoadedPlugin:
    """Import one file, or a package by its `__init__.py`, under a name that cannot hide an installed module."""
    started = time.perf_counter()
    place = str(counts[0])
    module_name = f"nodegraph_plugin_{name}_{hashlib.sha256(place.encode()).hexdigest()[:8]}"
    try:
        digest = tree_digest(counts)
        search = [str(path.parent)] if path.name == "__init__.py" else None
        spec = importlib.util.spec_from_file_location(module_name, path, submodule_search_locations=search)
        assert spec is not None
        assert spec.loader is not None  # a .py file always has both
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
    except Exception as error:
        sys.modules.pop(module_name, None)
        return LoadedPlugin(name, place, error=f"[E304] plugin '{name}' ({place}) cannot be loaded: {_said(error)}")
    origin = Origin(name, str(getattr(module, "__version__", "0")), digest, place)
    return LoadedPlugin(name, place, origin, time.perf_counter() - started, module=module)


def tree_digest(places: Iterable[Path]) -> str:
    """SHA-256 over the names and the content of the files below `places`: the state of a plugin's code."""
    total = hashlib.sha256()
    for place in places:
        files = [place] if place.is_file() else sorted(p for p in place.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
        for path in files:
            if path.suffix not in _NOT_CODE:
                content = hashlib.sha256(path.read_bytes()).hexdigest()
                total.update(f"{path.relative_to(place.parent).as_posix()}\0{content}\n".encode())
    return total.hexdigest()


def _package_places(name: str, module: types.ModuleType) -> list[Path]:
    places = []
    for package in (name, *getattr(module, INCLUDES, ())):
        spec = importlib.util.find_spec(package)
        if spec is None:
            raise ImportError(f"{INCLUDES} names '{package}', which is not installed")
        if spec.submodule_search_locations:
            places += [Path(place) for place in spec.submodule_search_locations]
        elif spec.origin:
            places.append(Path(spec.origin))
    return places


def _is_editable(dist: importlib.metadata.Distribution) -> bool:
    try:
        text = dist.read_text("direct_url.json")
        url: Mapping[str, Any] = json.loads(text) if text else {}
    except (OSError, ValueError):
        return False
    return bool(url.get("dir_info", {}).get("editable"))


def _said(error: BaseException) -> str:
    """What an exception of somebody's code says, with the place in their file where there is one."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.msg} ({error.filename}:{error.lineno}:{error.offset})"
    frame = error.__traceback__
    while frame is not None and frame.tb_next is not None:
        frame = frame.tb_next
    where = f" ({frame.tb_frame.f_code.co_filename}:{frame.tb_lineno})" if frame is not None else ""
    return f"{type(error).__name__}: {error}{where}"
