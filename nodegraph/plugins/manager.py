"""Builds the plugin manager and calls the hooks with which plugins register things. Each engine has its own `Plugins`.

A plugin that cannot be used stays listed with the reason, so that every command can name it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pluggy

from nodegraph.errors import PluginError
from nodegraph.node_types.signature import SignatureError, spec_of
from nodegraph.node_types.spec import NodeSpec
from nodegraph.plugins import hook_checks, hookspecs
from nodegraph.plugins.backend import Backend, CpuBackend, missing_methods
from nodegraph.plugins.code.installed import is_installed
from nodegraph.plugins.code.loads import LOADS, Load
from nodegraph.plugins.code.running import note_use_of_plugins
from nodegraph.plugins.code.shared_modules import SharedModules, looking_at_modules, note_changes
from nodegraph.plugins.code.watch import CodeWatch, note_imports
from nodegraph.plugins.codecs import Codecs
from nodegraph.plugins.discovery import GROUP, INCLUDES, LoadedPlugin, describe_error, find_plugins, loads_of
from nodegraph.plugins.hook_checks import REGISTER
from nodegraph.plugins.registered import RegisteredThings
from nodegraph.plugins.registry import Entry, Origin, Registry
from nodegraph.plugins.state.known_state import KnownState
from nodegraph.plugins.state.locale_state import encoding_of_text
from nodegraph.plugins.used_code import UsedCode
from nodegraph.plugins.watched import WatchedNodes
from nodegraph.settings import plugin_dirs as dirs_of_settings
from nodegraph.text import did_you_mean, sentence

__all__ = ["LoadedPlugin", "Plugins", "load_plugins"]


_CLASH = "[E301]"
_COMMAND_LINE_HOOKS = {"commands", "options"}  # called by the command line when it needs them
_NOT_REGISTRIES = {"nodes", "codecs", "backend", *_COMMAND_LINE_HOOKS}


def load_plugins(plugin_dirs: Sequence[Path | str] = (), *, with_code: bool = True, only_commands: bool = False) -> Plugins:
    """Load the plugins of the installed entry points, of `plugin_dirs`, and of the folders that the user has set.

    Not `with_code` is faster, and is enough for a listing. Such plugins can make no keys. With `only_commands`, they register
    nothing but commands and options of the command line, which is the fastest.
    """
    note_use_of_plugins()
    return Plugins(plugin_folders(plugin_dirs), with_code=with_code and not only_commands, only_commands=only_commands)


def plugin_folders(plugin_dirs: Sequence[Path | str]) -> list[Path | str]:
    """The folders `plugin_dirs`, and those that the user has set."""
    return [*plugin_dirs, *dirs_of_settings()]


class Plugins:
    """The plugins of one engine, and what they registered.

    Not `with_code`, they are only for listings; with `only_commands`, their registries stay empty.
    """

    def __init__(self, plugin_dirs: Sequence[Path | str] = (), *, with_code: bool = True, only_commands: bool = False) -> None:
        self.with_code, self.only_commands, self.folders = with_code, only_commands, tuple(map(Path, plugin_dirs))
        self.manager = pluggy.PluginManager(GROUP)
        self.manager.add_hookspecs(hookspecs)
        self.nodes: Registry[NodeSpec] = Registry("nodes", singular="node type")
        self.backend: Backend = CpuBackend()
        self.known_state = KnownState(lambda: self.backend)
        self.codecs = Codecs(self.known_state)
        self._backend_origin: Origin | None = None
        self._encoding = encoding_of_text()
        self.manager.hook.add_hooks.call_historic(kwargs={"pluginmanager": self.manager})
        note_imports()
        start = len(LOADS)
        found = []
        for plugin in find_plugins(plugin_dirs, self.known_state, with_code=with_code):
            found.append(plugin)
            self._find_backend(plugin)  # the next plugins are imported in its known state
        # plugins that add hooks come first, so that a mistake in such a hook is reported for the plugin with the mistake
        found.sort(key=lambda plugin: not hasattr(plugin.module, "add_hooks"))
        self._place_of: dict[str, str] = {}
        self._registered = RegisteredThings()
        self._used_code: dict[str, UsedCode] = {}  # by node type, of nodes that receive no registered things
        self._loads: dict[str, Collection[Load]] = {}  # what the hooks of each plugin loaded
        registered = [self._register(plugin) for plugin in found]
        self._by_package = {plugin.package: plugin for plugin in registered if plugin.error is None and plugin.module is not None}
        self.registries: Mapping[str, Registry[Any]] = self._make_registries()
        with self.known_state:
            sound = (self._refuse_unknown_hooks(plugin) for plugin in registered)
            self.loaded = tuple(sound if only_commands else map(self._fill_and_look, sound))
        if self._backend_origin is None:
            self.backend = CpuBackend()
        codes = {plugin.package: plugin.code for plugin in self.loaded if plugin.code is not None and plugin.module is not None}
        self.watched = WatchedNodes(self.nodes, codes, self.backend.watched_libraries())
        codes = {plugin.name: plugin.code for plugin in self.loaded if plugin.code is not None}
        places = {plugin.place: plugin.name for plugin in self.loaded}
        others = {plugin.name: plugin for plugin in self.loaded if plugin.code is not None and not plugin.is_ours}
        self.shared_modules = SharedModules(
            {name: plugin.code for name, plugin in others.items() if plugin.code is not None},
            {name: plugin.origin.identity for name, plugin in others.items() if plugin.origin is not None},
        )
        self.codecs.add_code(self.shared_modules.code_of_others)
        self.code_watch = CodeWatch(codes, places=places, start=start, registering=self._loads)

    def __repr__(self) -> str:
        return f"<Plugins: {', '.join(f'{plugin.name} (broken)' if plugin.error else plugin.name for plugin in self.loaded)}>"

    def origin(self, name: str) -> Origin | None:
        """The origin of the plugin called `name`."""
        return next((plugin.origin for plugin in self.loaded if plugin.name == name), None)

    def owner(self, module: str) -> str | None:
        """The name of the plugin that contains the module called `module`."""
        package = module.partition(".")[0]
        return next((plugin.name for plugin in self.loaded if plugin.package == package), None)

    def is_unchanged(self, thing: NodeSpec | Entry[Any]) -> bool:
        """Whether a node type or a registered thing is what its plugin registered: its code can be replaced, by monkeypatching."""
        if isinstance(thing, Entry):
            return self._registered.is_unchanged(thing, thing.value)
        entry = self.nodes.get(thing.name) if thing.name in self.nodes else None
        return entry is not None and entry.value is thing and self._registered.is_unchanged(entry, thing.function)

    def choice(self, thing: NodeSpec | Entry[Any]) -> str:
        """Text for what a thing depends on besides the code of its plugin.

        It differs if this code, in another environment, registers another thing of this name, and if another plugin has changed
        modules that this one may use.
        """
        entry = thing if isinstance(thing, Entry) else self.nodes.get(thing.name)
        others = self.shared_modules.code_of_others(entry.origin.plugin)
        return f"{self._registered.choice(entry)} {others}".strip()

    def used_code(self, node_type: str, things: Sequence[Entry[Any]] = ()) -> UsedCode:
        """The code that a node of this type runs if it receives these registered things. Raises KeyError if there is none."""
        found = self._used_code.get(node_type) if not things else None
        if found is None:
            found = UsedCode(
                self.nodes.get(node_type),
                things,
                code_watch=self.code_watch,
                shared_modules=self.shared_modules,
                registered=self._registered,
            )
            if not things:
                self._used_code[node_type] = found
        return found

    def chosen_state(self) -> Callable[[NodeSpec], str] | None:
        """Returns a function from a node type to what a program chose that its results depend on; None if it chose nothing.

        This is what the backend leaves as it is, and the encoding of text, if it is not that when the plugins were loaded.
        """
        encoding, chosen = encoding_of_text(), self.backend.chosen_state()
        text = f"text in {encoding or 'UTF-8'}" if encoding != self._encoding else ""
        if not (text or chosen):
            return None
        return lambda spec: f"{text} {chosen if not spec.numeric and self.watched[spec.name] else ''}".strip()

    def broken(self) -> list[LoadedPlugin]:
        """The plugins that cannot be used."""
        return [plugin for plugin in self.loaded if plugin.error]

    def why_broken(self) -> str:
        """A sentence for each plugin that cannot be used: a possible reason why a name is unknown."""
        return "".join(f" {sentence(plugin.error or '')}" for plugin in self.broken())

    def suggest(self, kind: str, name: str) -> str:
        """A sentence that helps with a name that the registry `kind` does not have."""
        registry = self.registries[kind]
        return registry.split(name, self.registries.values()) or registry.suggest(name)

    def require_sound(self) -> None:
        """Raise PluginError if plugins clash or registered something unusable."""
        fatal = [plugin for plugin in self.loaded if plugin.fatal]
        if fatal:
            raise PluginError("\n".join(str(plugin.error) for plugin in fatal))

    def call(self, plugin: LoadedPlugin, hook: str, **arguments: Any) -> None:
        """Call one plugin's own implementation of `hook`, if it has one and can be used."""
        if plugin.module is None or plugin.error:
            return
        others = [module for module in self.manager.get_plugins() if module is not plugin.module]
        self.manager.subset_hook_caller(hook, others)(**arguments)

    # --- loading

    def _register(self, plugin: LoadedPlugin) -> LoadedPlugin:
        if plugin.error is not None:
            return plugin
        if plugin.name in self._place_of:
            both = f"{self._place_of[plugin.name]} and {plugin.place}"
            return replace(plugin, error=f"[E301] two plugins are called '{plugin.name}': {both}. Rename or remove one", fatal=True)
        self._place_of[plugin.name] = plugin.place
        try:
            self.manager.register(plugin.module, plugin.name)
        except pluggy.PluginValidationError as error:
            return self._unusable(plugin, hook_checks.wrong_arguments(self.manager, plugin.module) or " ".join(str(error).split()))
        except Exception as error:  # its add_hooks failed
            return self._unusable(plugin, f"add_hooks failed: {describe_error(error)}")
        return plugin

    def _unusable(self, plugin: LoadedPlugin, why: str) -> LoadedPlugin:
        """Remove the plugin's hooks; returns it with the reason."""
        return _failed(self._without_hooks(plugin), f"[E303] plugin '{plugin.name}' ({plugin.place}): {why}")

    def _without_hooks(self, plugin: LoadedPlugin) -> LoadedPlugin:
        if self.manager.is_registered(plugin.module):
            self.manager.unregister(plugin.module)
        return plugin

    def _take_back(self, plugin: LoadedPlugin) -> LoadedPlugin:
        """Remove what a plugin registered before it failed, if runs go on without it."""
        if plugin.fatal:
            return plugin
        for registry in (self.nodes, *self.registries.values()):
            registry.remove(plugin.name)
        self.codecs.remove(plugin.name)
        if self._backend_origin is plugin.origin:
            self.backend, self._backend_origin = CpuBackend(), None
        return self._without_hooks(plugin)

    def _make_registries(self) -> dict[str, Registry[Any]]:
        kinds = (name.removeprefix(REGISTER) for name in hook_checks.specified(self.manager) if name.startswith(REGISTER))
        return {kind: Registry(kind) for kind in kinds if kind not in _NOT_REGISTRIES}

    def _refuse_unknown_hooks(self, plugin: LoadedPlugin) -> LoadedPlugin:
        """Refuse a misspelt hook: it would never be called, and there would be no message."""
        if plugin.error is not None:
            return plugin
        known = hook_checks.specified(self.manager)
        for hook in self.manager.get_hookcallers(plugin.module) or ():
            if hook.name not in known:
                hint = did_you_mean(hook.name, known) or f"The hooks are {', '.join(sorted(known))}."
                return self._unusable(plugin, f"it implements '{hook.name}', which is not a hook. {hint}")
        for name in hook_checks.undecorated(self.manager, plugin.module):
            return self._unusable(plugin, f"its function {name} is never called. Decorate it with @hookimpl")
        return plugin

    def _fill_and_look(self, plugin: LoadedPlugin) -> LoadedPlugin:
        """`_fill`, noting which modules of others the plugin changes."""
        if plugin.is_ours or plugin.error is not None or plugin.origin is None or not self.with_code:
            return self._fill(plugin)
        with looking_at_modules(plugin.package) as changed:
            filled = self._fill(plugin)
        note_changes(changed, plugin.origin.identity)
        return filled

    def _fill(self, plugin: LoadedPlugin) -> LoadedPlugin:
        """Call the plugin's own `register_...` hooks, so that each registered thing gets the plugin's origin."""
        if plugin.error is not None or plugin.origin is None:  # without an origin only if loading failed
            return plugin
        position = len(LOADS)
        for hook in self.manager.get_hookcallers(plugin.module) or ():
            kind = hook.name.removeprefix(REGISTER)
            if not hook.name.startswith(REGISTER) or kind in _COMMAND_LINE_HOOKS:
                continue
            register = self._registrar(kind, plugin, plugin.origin)
            try:
                for implementation in hook.get_hookimpls():
                    if implementation.plugin is plugin.module:
                        implementation.function(*(register for _ in implementation.argnames))
            except PluginError as error:
                return self._take_back(_failed(plugin, str(error)))
            except Exception as error:  # raised by the plugin's own code
                message = f"[E303] plugin '{plugin.name}' ({plugin.place}), in {hook.name}: {describe_error(error)}"
                return self._take_back(_failed(plugin, message))
        self._loads[plugin.name] = loads_of(f"{plugin.place} registers", position)
        return plugin

    def _registrar(self, kind: str, plugin: LoadedPlugin, origin: Origin) -> Callable[..., None]:
        if kind == "codecs":
            return lambda type_, codec: self.codecs.add(type_, codec, origin)
        if kind == "backend":
            return lambda backend: self._set_backend(backend, origin)
        if kind == "nodes":

            def register_node(function: Callable[..., Any]) -> None:
                try:
                    spec = spec_of(function)
                except SignatureError as error:
                    raise PluginError(f"[E302] plugin '{origin.plugin}' ({origin.place}): {error}") from error
                entry = Entry(spec.name, spec, self._origin_of(spec.function, plugin, origin), foreign_names=spec.foreign_names)
                self.nodes.add(entry)
                self._registered.add(entry, spec.function)

            return register_node

        def register(name: str, value: Any, **meta: Any) -> None:
            try:
                checked = self.manager.hook.registered(kind=kind, name=name, value=value, declared=meta)
            except (TypeError, ValueError) as error:
                raise PluginError(f"[E302] plugin '{origin.plugin}' ({origin.place}), {kind} '{name}': {error}") from error
            value = value if checked is None else checked
            aliases = meta.get("aliases", getattr(value, "aliases", ()))
            aliases = (aliases,) if isinstance(aliases, str) else tuple(aliases)
            entry = Entry(name, value, self._origin_of(value, plugin, origin), meta=meta, aliases=aliases)
            self.registries[kind].add(entry)
            self._registered.add(entry, value)

        return register

    def _origin_of(self, thing: object, plugin: LoadedPlugin, origin: Origin) -> Origin:
        """The origin of a thing that `plugin` registers, with the code of the module that defines it, if that is not the plugin's.

        A plugin can replace what another one registers, when it is imported.
        """
        name = str(getattr(thing, "__module__", None) or "")
        package = name.partition(".")[0]
        if package == plugin.package or package in {part.partition(".")[0] for part in getattr(plugin.module, INCLUDES, ())}:
            return origin
        if (other := self._by_package.get(package)) is not None and other.origin is not None:
            return replace(origin, build=f"{origin.build or ''} with {other.origin.identity}")
        file = getattr(sys.modules.get(name), "__file__", None)
        covered = file is None or (plugin.code is not None and file in plugin.code.files) or is_installed(Path(file))
        if covered and package != "__main__":
            return origin
        return replace(origin, build=f"{origin.build or ''} with {os.urandom(16).hex()}")  # no key names this code again

    def _find_backend(self, plugin: LoadedPlugin) -> None:
        """Take the backend that a plugin will register, until it does."""
        register = getattr(plugin.module, "register_backend", None)
        with contextlib.suppress(Exception):  # raised by the plugin's own code: registering it will report that
            if register is not None and type(self.backend) is CpuBackend:
                register(lambda backend: None if missing_methods(backend) else setattr(self, "backend", backend))

    def _set_backend(self, backend: Backend, origin: Origin) -> None:
        """Raises PluginError if there is a backend already, or if `backend` is not one."""
        missing = missing_methods(backend)
        if missing:
            raise PluginError(
                f"[E302] plugin '{origin.plugin}' ({origin.place}) registers a backend without {', '.join(missing)}. "
                f"Implement every method of nodegraph.plugin_api.Backend"
            )
        if self._backend_origin is not None:
            raise PluginError(
                f"[E301] two plugins register a backend: '{self._backend_origin.plugin}' ({self._backend_origin.place}) and "
                f"'{origin.plugin}' ({origin.place}). Remove one"
            )
        self.backend, self._backend_origin = backend, origin


def _failed(plugin: LoadedPlugin, message: str) -> LoadedPlugin:
    """The plugin with the reason why it cannot be used. Without one that others installed, runs go on, unless there is a clash."""
    return replace(plugin, error=message, fatal=not plugin.is_foreign or message.startswith(_CLASH))
