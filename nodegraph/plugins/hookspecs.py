"""The hooks. A plugin implements those it needs, decorated with `nodegraph.hookimpl`.

A hook named `register_<kind>` receives `register`; the host decides about names and collisions. A pack may add hooks
of its own domain with `add_hooks`: each further `register_<kind>` makes a registry of that kind, which node inputs refer to as
`Choice("<kind>")` and `nodegraph <kind>` lists.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from nodegraph.plugins.backend import Backend
    from nodegraph.plugins.codecs import Codec
    from nodegraph.run.events import Event

hookspec = pluggy.HookspecMarker("nodegraph")
hookimpl = pluggy.HookimplMarker("nodegraph")


@hookspec(historic=True)
def add_hooks(pluginmanager: pluggy.PluginManager) -> None:
    """Add hooks of a domain: call `pluginmanager.add_hookspecs(module)`."""


@hookspec
def register_nodes(register: Callable[[Callable[..., Any]], None]) -> None:
    """Offer node types: `register(function)` for each function decorated with `@node`."""


@hookspec
def register_codecs(register: Callable[[type, Codec], None]) -> None:
    """Say how values of a port type are stored and exported: `register(type, codec)`."""


@hookspec
def register_backend(register: Callable[[Backend], None]) -> None:
    """Register the object that answers for devices and memory: `register(backend)`. There can be only one."""


@hookspec(firstresult=True)
def registered(kind: str, name: str, value: Any, declared: Mapping[str, Any]) -> Any:
    """Look at what a plugin registers in the registry `kind` of a pack, with `register(name, value, **declared)`.

    Gives what stands there in its place, or None for itself. ValueError refuses it, with the reason.
    """


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to the command line: decorate functions with `@cli.command()`."""


@hookspec
def on_event(event: Event) -> None:
    """Hear what happens while a run goes on; see `nodegraph.run.events`. What is raised here is a warning, not a failure."""
