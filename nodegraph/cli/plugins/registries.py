"""`nodegraph <kind>`: a listing for each registry that a pack adds."""

from __future__ import annotations

import inspect
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from nodegraph.cli.failures import warn_of_broken
from nodegraph.cli.help import epilog
from nodegraph.cli.options import Completion, json_option, plugin_dir_option
from nodegraph.cli.plugins.describe import lookup, origin_object, port_facts, port_object, print_indented
from nodegraph.cli.tables import aligned, first_line, print_table
from nodegraph.node_types.port_types import type_name
from nodegraph.node_types.signature import option_ports
from nodegraph.plugins.registry import Entry, Registry
from nodegraph.terminal import echo, echo_json


def registry_command(kind: str) -> click.Command:
    """The command `nodegraph <kind> [NAME]` for a registry."""
    text = f"""List the {kind}, or describe the one called NAME.

    The description has the options of NAME with their types and defaults, and the plugin that it comes from. NAME may be one of
    its aliases.
    """

    @click.command(kind, cls=_Listing, help=text)
    @click.argument("name", required=False, shell_complete=_complete(kind))
    @plugin_dir_option
    @json_option
    def command(name: str | None, plugin_dirs: Sequence[Path], as_json: bool) -> None:
        from nodegraph.plugins.manager import load_plugins

        plugins = load_plugins(plugin_dirs, with_code=False)
        warn_of_broken(plugins)
        found = plugins.registries[kind] if kind in plugins.registries else Registry(kind)
        if as_json and name is None:
            echo_json(json.dumps([as_object(entry) for entry in found.entries()]))
        elif as_json:
            echo_json(json.dumps(as_object(lookup(found, name or "", plugins.registries.values()))))
        elif name is None:
            rows = [(entry.name, first_line(inspect.getdoc(entry.value)), entry.origin.plugin) for entry in found.entries()]
            print_table(("name", "what it is", "plugin"), rows)
        else:
            print_entry(lookup(found, name, plugins.registries.values()))

    return command


class _Listing(click.Command):
    """A command whose help has an example with a name of its registry. Plugins fill the registry when this help is shown."""

    @property
    def epilog(self) -> str | None:
        """The end of the help."""
        from nodegraph.plugins.manager import load_plugins

        kind = str(self.name)
        names = load_plugins(with_code=False).registries[kind].names()
        return epilog(f"nodegraph {kind}", f"nodegraph {kind} --json", *(f"nodegraph {kind} {name}" for name in names[:1]))

    @epilog.setter
    def epilog(self, text: str | None) -> None:
        """There is no other one, whatever click says."""


def _complete(kind: str) -> Completion:
    def names(ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        from nodegraph.cli.completion import registered

        return registered(ctx, kind, incomplete)

    return names


def declarations(entry: Entry[Any]) -> dict[str, str]:
    """What was declared about a registered thing: from its method `describe`, if it has one."""
    describe = getattr(entry.value, "describe", None)
    facts = dict(describe()) if callable(describe) else {key: str(value) for key, value in entry.meta.items() if key != "aliases"}
    return facts | ({"also known as": ", ".join(entry.aliases)} if entry.aliases else {})


def as_object(entry: Entry[Any]) -> dict[str, Any]:
    """The description of a registered thing for `--json`."""
    options = option_ports(entry.value) if callable(entry.value) else ()
    declared = declarations(entry)
    declared.pop("also known as", None)
    return {
        "name": entry.name,
        "aliases": list(entry.aliases),
        "description": inspect.getdoc(entry.value) or "",
        "options": [port_object(option) for option in options],
        "declared": declared,
        "from": origin_object(entry),
    }


def print_entry(entry: Entry[Any]) -> None:
    """Print the description of a registered thing."""
    echo(entry.name)
    doc = inspect.getdoc(entry.value)
    if doc:
        echo(f"\n{doc}")
    options = option_ports(entry.value) if callable(entry.value) else ()
    if options:
        echo("\noptions:")
        print_indented([(option.name, type_name(option.type), port_facts(option)) for option in options])
    facts = declarations(entry)
    if facts:
        echo()
        for line in aligned([(f"{key}:", value) for key, value in facts.items()]):
            echo(line)
    echo(f"\nfrom: {entry.origin.plugin} ({entry.origin.place})")
