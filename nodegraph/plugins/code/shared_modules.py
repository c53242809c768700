"""Modules that several plugins use: what one of them puts into a module that is not its own may change the results of others.

What it puts there while it is imported or registers its nodes comes from its code, so this code is in the keys of the others. If
something else is put there later, the results of plugins that share the module are not kept.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.machinery
import re
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, Final, NamedTuple

from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.code.imports import SCRIPT
from nodegraph.plugins.code.installed import is_installed_file
from nodegraph.plugins.code.module_state import ModuleState, are_same, is_changed, is_library_changed, state_of, state_of_library
from nodegraph.plugins.code.plugin_code import Code
from nodegraph.plugins.code.running import ENGINE_FOLDER, RUNNING

_SETTERS: Final = ("setattr", "delattr", "__dict__", "vars(", "patch", "sys.modules")
_IS_ATTRIBUTE: Final = re.compile(r"\.\w+ *(?:\Z|,)").search
_WORDS: Final = re.compile(r"[^\W\d]\w*").findall

PACKAGES: Final[set[str]] = set()
"""The top-level packages of installed plugins."""


class Looked(NamedTuple):
    """A module and its state at some time."""

    module: ModuleType
    state: ModuleState
    is_library: bool

    def is_loaded(self) -> bool:
        return sys.modules.get(self.module.__name__) is self.module

    def is_changed(self) -> bool:
        if not self.is_loaded():
            return False
        return is_library_changed(self.module, self.state) if self.is_library else is_changed(self.module, self.state)


@dataclass(frozen=True, kw_only=True, eq=False)
class Change:
    """A plugin has changed a module, which was `looked` at before. `identity` is that of the plugin's code."""

    looked: Looked
    identity: str


_changes: Final[list[Change]] = []  # of this process
_as_loaded: Final[dict[str, Looked]] = {}  # by path: modules outside of distributions, as plugins left them when they were imported


class _Look(threading.local):
    """What a thread notes while it imports a plugin, or lets it register its nodes.

    Libraries are compared only if the plugin's code may set attributes of theirs, as that takes time: those in `libraries`.
    """

    package: str | None = None  # of the plugin
    before: Mapping[str, Looked] = {}
    libraries: set[str] = set()  # noqa: RUF012 (each block sets its own)


_look = _Look()
_libraries: Final[dict[str, set[str]]] = {}  # by the package of a plugin: the words of its sources that may set attributes


@contextlib.contextmanager
def looking_at_modules(package: str) -> Iterator[list[Looked]]:
    """Yields a list. Once the block has ended, it has the modules outside of `package` that were changed, as they were before."""
    changed: list[Looked] = []
    _look.package, _look.before, _look.libraries = package, {}, _libraries.setdefault(package, set())
    _look_at(dict(sys.modules))
    try:
        yield changed
    finally:
        before, _look.package, _look.before = _look.before, None, {}
        for looked in before.values():
            if looked.is_changed():
                changed.append(looked)
                _note_as_left(looked)


def note_changes(changed: list[Looked], identity: str) -> None:
    """Note that the plugin with this identity has changed these modules."""
    _changes.extend(Change(looked=looked, identity=identity) for looked in changed)


class SharedModules:
    """What the plugins of one engine have from others through modules. `codes` and `identities` have those that are not ours."""

    def __init__(self, codes: Mapping[str, Code], identities: Mapping[str, str]) -> None:
        self._codes, self._identities, self._position = codes, identities, len(_changes)
        self._changes = [change for change in _changes if change.looked.is_changed()]
        uses = Counter(path for code in codes.values() for path in code.files if path.endswith(".py"))
        shared = {path for path, count in uses.items() if count > 1}
        self._shared = {plugin: shared & code.files.keys() for plugin, code in codes.items()} if shared else {}
        self._paths = shared
        self._note_loaded()

    def __repr__(self) -> str:
        return f"<SharedModules: {len(self._paths)} shared by plugins, {len(self._changes)} changed by one>"

    def code_of_others(self, plugin: str) -> str:
        """The identities of the plugins that have changed modules which this one may use, in order, without its own import.

        Several engines may import a plugin several times, which may change a module each time.
        """
        found = [change.identity for change in self._changes if self._is_used(change, plugin)] if self._changes else []
        if (own := self._identities.get(plugin)) in found:
            found.remove(own)
        return " ".join(found)

    def changed(self, plugin: str) -> str | None:
        """The file of a module that this plugin may use, if one was changed since the plugins were loaded."""
        for change in _changes[self._position :] if len(_changes) > self._position else ():
            if self._is_used(change, plugin) and change.looked.is_changed():
                return change.looked.module.__file__
        if plugin in self._shared:
            self._note_loaded()
            for path in self._shared[plugin]:
                looked = _as_loaded.get(path)
                if looked is not None and is_changed(looked.module, looked.state, may_have_more=True):
                    return path
        return None

    def _is_used(self, change: Change, plugin: str) -> bool:
        looked, code = change.looked, self._codes.get(plugin)
        if looked.is_library:
            return True
        return code is not None and (code.is_dynamic or looked.module.__file__ in code.files)

    def _note_loaded(self) -> None:
        """Note the shared modules that were imported since the last look."""
        missing = {path for path in self._paths if (looked := _as_loaded.get(path)) is None or not looked.is_loaded()}
        for module in tuple(sys.modules.values()) if missing else ():
            if getattr(module, "__file__", None) in missing:
                _as_loaded[str(module.__file__)] = Looked(module, state_of(module), False)


def _note_as_left(looked: Looked) -> None:
    """Note how a plugin leaves a module, unless this was changed before, when no plugin was imported."""
    path = str(looked.module.__file__)
    known = _as_loaded.get(path)
    if known is not None and known.module is looked.module and are_same(known.state, looked.state):
        _as_loaded[path] = looked._replace(state=state_of(looked.module))


def _look_at(modules: Mapping[str, Any]) -> None:
    """Note the state of those of these modules that count."""
    _look.before = {**_look.before, **{name: looked for name, module in modules.items() if (looked := _looked(name, module))}}


def _looked(name: str, module: Any) -> Looked | None:
    """A module with its state; None if it is the plugin's or the engine's own, or of a library that is not looked at."""
    file = getattr(module, "__file__", None)
    if not _look.libraries and file in _of_libraries:  # most modules
        return None
    top = name.partition(".")[0]
    if name in _look.before or top in (_look.package, SCRIPT):
        return None
    if not isinstance(file, str) or not isinstance(module, ModuleType):
        return None
    if not (is_installed_file(file) or top in PACKAGES or file.startswith(ENGINE_FOLDER)):
        return Looked(module, state_of(module), False)
    _of_libraries.add(file)
    if top in _look.libraries and not file.startswith(ENGINE_FOLDER):
        return Looked(module, state_of_library(module), True)
    return None


_of_libraries: Final[set[str]] = set()  # files of modules that are in distributions


def _libraries_in(source: str) -> set[str]:
    """The words of a source that may be names of libraries, if it may set attributes of modules or classes; else none."""
    if not (any(word in source for word in _SETTERS) or any(map(_sets_attribute, source.splitlines()))):
        return set()
    words = set(_WORDS(source)) - sys.stdlib_module_names
    return words if words.isdisjoint(PACKAGES) else words | PACKAGES


def _sets_attribute(line: str) -> bool:
    """Whether a line looks like an assignment to an attribute of something else than `self`."""
    target, sign, value = line.partition("=")
    if not sign or "." not in target or value[:1] == "=" or target.count("(") != target.count(")"):
        return False
    target = target.strip(" \t+-*/%&|^@")
    return _IS_ATTRIBUTE(target) is not None and not target.startswith(("self.", "cls."))


def _looking(execute: Callable[[Any, ModuleType], None]) -> Callable[[Any, ModuleType], None]:
    """`exec_module` of a loader: modules that a plugin, or a node, imports are looked at once they are complete."""

    @functools.wraps(execute)
    def exec_module(self: Any, module: ModuleType) -> None:
        package = _look.package
        if package is None and not RUNNING:
            execute(self, module)
            return
        file, name = str(getattr(self, "path", "")), module.__name__
        is_outside = not (is_installed_file(file) or file.startswith(ENGINE_FOLDER))
        if package is not None and (is_outside or name.partition(".")[0] == package):
            with contextlib.suppress(OSError):
                if found := _libraries_in(self.get_data(file).decode("utf-8", "replace")) - _look.libraries:
                    _look.libraries |= found
                    _look_at(dict(sys.modules))
        execute(self, module)
        if package is not None:
            _look_at({name: module})
        elif is_outside and name.partition(".")[0] not in PACKAGES:
            _as_loaded[file] = Looked(module, state_of(module), False)

    return exec_module


_loader: Any = next(kind for kind in importlib.machinery.SourceFileLoader.__mro__ if "exec_module" in vars(kind))
if not hasattr(_loader.exec_module, "__wrapped__"):
    _loader.exec_module = _looking(_loader.exec_module)
