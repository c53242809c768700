"""The code that a node runs: that of its type, and that of the registered things that it receives."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nodegraph.node_types.spec import NodeSpec
from nodegraph.plugins.code.imports import SCRIPT
from nodegraph.plugins.code.shared_modules import SharedModules
from nodegraph.plugins.code.watch import CodeWatch
from nodegraph.plugins.registered import RegisteredThings
from nodegraph.plugins.registry import Entry


class UsedCode:
    """The code of nodes of the type `entry` that receive these registered `things`. It is looked at after each of them has run."""

    def __init__(
        self,
        entry: Entry[NodeSpec],
        things: Sequence[Entry[Any]],
        *,
        code_watch: CodeWatch,
        shared_modules: SharedModules,
        registered: RegisteredThings,
    ) -> None:
        self.entry, self._things = entry, things
        self._code_watch, self._shared_modules, self._registered = code_watch, shared_modules, registered
        self._plugin = entry.origin.plugin
        self._plugins = (self._plugin, *(thing.origin.plugin for thing in things))

    def __repr__(self) -> str:
        return f"<UsedCode of {self.entry.name}>"

    def change(self) -> str | None:
        """A notice about code that was changed since the keys were made; None if none was."""
        plugin, entry = self._plugin, self.entry
        path = self._code_watch.changed(plugin)
        is_replaced = not self._registered.has_same_code(entry, entry.value.function)
        shared = self._shared_modules.changed(plugin)
        for thing in self._things:
            if path is not None or is_replaced:
                break
            path = self._code_watch.changed(thing.origin.plugin)
            is_replaced = not self._registered.is_unchanged(thing, thing.value)
            shared = shared or self._shared_modules.changed(thing.origin.plugin)
        if path is None and not is_replaced and shared is None:
            return None
        return _notice(path, shared)

    def imports(self) -> Mapping[str, str]:
        """The modules that the node may have imported and that no key covers."""
        return self._code_watch.imports(self._plugins)


def _notice(path: Path | None, shared: str | None) -> str:
    if shared is not None:
        return (
            f"the module {shared}, which other code of this process uses too, was changed in memory; its result is used but not "
            f"kept. Start again, without the code that changes it"
        )
    if path == Path(SCRIPT):
        return "its plugin imports __main__, which is in no file; its result is used but not kept. Run a program that is in a file"
    code = (
        f"in {path} was changed while this process ran"
        if path is not None
        else "that it runs was replaced in memory during the run"
    )
    return f"the code {code}; its result is used but not kept. Start again to use the new code"
