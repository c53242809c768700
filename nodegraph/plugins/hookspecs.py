"""The hooks. A plugin implements the ones it needs, each decorated with `nodegraph.hookimpl`.

A `register_...` hook receives the function `register`; the engine checks names and collisions. A pack adds hooks of its own domain
with `add_hooks`. Each additional `register_<kind>` hook creates a registry of that kind: node inputs refer to it as
`Choice("<kind>")`, and `nodegraph <kind>` lists it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pluggy

if TYPE_CHECKING:
    import click

    from nodegraph.plugins.backend import Backend
    from nodegraph.plugins.codec import Codec

hookspec = pluggy.HookspecMarker("nodegraph")
hookimpl = pluggy.HookimplMarker("nodegraph")


@hookspec(historic=True)
def add_hooks(pluginmanager: pluggy.PluginManager) -> None:
    """Add the hooks of a domain: call `pluginmanager.add_hookspecs(module)`."""


@hookspec
def register_nodes(register: Callable[[Callable[..., Any]], None]) -> None:
    """Add node types: call `register(function)` for each function decorated with `@node`."""


@hookspec
def register_codecs(register: Callable[[type, Codec], None]) -> None:
    """Describe how values of a port type are stored and exported: call `register(type, codec)`."""


@hookspec
def register_backend(register: Callable[[Backend], None]) -> None:
    """Register the object that answers for devices, memory and previews: call `register(backend)`. There can be only one."""


@hookspec
def register_examples(register: Callable[[str, Path], None]) -> None:
    """Offer workflow files, which users run by their name: call `register(name, path)`.

    Files that a workflow names by relative paths are beside it, and are copied with it.
    """


@hookspec
def register_importers(register: Callable[[str, Callable[[Any], Any]], None]) -> None:
    """Read graphs of another program: call `register(name, importer)`, with the name of the program.

    The importer receives an `ImportRequest` and returns an `Imported`, or None for a file that it does not know.
    """


@hookspec
def register_exporters(register: Callable[[str, Callable[[Any], Any]], None]) -> None:
    """Write workflows for another program: call `register(name, exporter)`, with the name of the program.

    The exporter receives an `ExportRequest` and returns an `Exported`.
    """


@hookspec
def register_commands(cli: click.Group) -> None:
    """Add commands to the command line: decorate functions with `@cli.command()`."""


@hookspec
def register_options(register: Callable[..., None]) -> None:
    """Add an option to commands of nodegraph: call `register(option, "run", "check", ...)` with a `click.Option`.

    The commands do not know the option, so create it with `expose_value=False` and act in its callback.
    """


@hookspec(firstresult=True)
def registered(kind: str, name: str, value: Any, declared: Mapping[str, Any]) -> Any:
    """Check what a plugin registers in the registry `kind` of your pack, by `register(name, value, **declared)`.

    Return the object to store instead of `value`, or None to store `value` itself. Raise ValueError with the reason to refuse it.
    """


@hookspec(firstresult=True)
def foreign_file(data: bytes) -> str | None:
    """Describe a file of another program that was given instead of a workflow: `data` is what it holds.

    Return how the sentence "FILE is ..." goes on, with what to do instead, or None if you do not know the file. Only called for
    files that are not workflows.
    """


@hookspec
def output_texts(nodes: Mapping[str, Mapping[str, Any]], node: str, data: bytes) -> Mapping[str, str]:  # type: ignore[empty-body]
    """Return more texts for the metadata of an output, by name, for other programs to read; {} for none.

    `data` is the content of the file without metadata, and `node` the node that made it. `nodes` holds what each node uses and its
    inputs; a link has the attributes `node` and `port`.
    """


@hookspec(firstresult=True)
def describe_output(data: bytes) -> Mapping[str, Any] | None:
    """Say how another program made a file: return its name as `program`, and more by their names, such as `seed`.

    Return None if you do not know the file. `data` may be damaged, or made to do harm.
    """


@hookspec
def on_event(event: Any) -> None:
    """Receive the events of runs: an `Event` of `nodegraph.plugin_api.events`. An exception becomes a warning; the run goes on."""
