"""One listing for each registry that a pack adds (`samplers`, `schedules`, ...), whatever is in it."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from nodegraph.cli.failures import warn_of_broken
from nodegraph.cli.options import plugin_dir_option
from nodegraph.cli.plugins.nodes import facts
from nodegraph.cli.tables import aligned, first_line, print_table
from nodegraph.node_types.literals import type_name
from nodegraph.node_types.signature import option_ports
from nodegraph.plugins.registry import Entry, Registry


def registry_command(kind: str, registry: Registry[Any]) -> click.Command:
    """The command `nodegraph <kind> [NAME]` for a registry."""

    @click.command(kind, help=f"List the {kind}, or describe the one called NAME.")
    @click.argument("name", required=False)
    @plugin_dir_option
    def command(name: str | None, plugin_dirs: Sequence[Path]) -> None:
        from nodegraph.plugins.manager import load_plugins

        plugins = load_plugins(plugin_dirs)
        warn_of_broken(plugins)
        found = plugins.registries.get(kind, registry)
        if name is None:
            rows = [(entry.name, first_line(inspect.getdoc(entry.value)), entry.origin.plugin) for entry in found.entries()]
            print_table(("name", "what it is", "plugin"), rows)
        else:
            _describe(lookup(found, name))

    return command


def lookup(registry: Registry[Any], name: str) -> Entry[Any]:
    """The entry called `name`; an unknown name is a wrong call."""
    if name not in registry:
        raise click.UsageError(f"There is no '{name}' among the {registry.kind}. {registry.suggest(name)}")
    return registry.get(name)


def _describe(entry: Entry[Any]) -> None:
    click.echo(entry.name)
    doc = inspect.getdoc(entry.value)
    if doc:
        click.echo(f"\n{doc}")
    options = option_ports(entry.value) if callable(entry.value) else ()
    if options:
        click.echo("\noptions:")
        for line in aligned([(option.name, type_name(option.type), facts(option)) for option in options]):
            click.echo(f"  {line}")
    said = declared(entry)
    if said:
        click.echo()
        for line in aligned([(f"{key}:", value) for key, value in said.items()]):
            click.echo(line)
    click.echo(f"\nfrom: {entry.origin.plugin} ({entry.origin.place})")


def declared(entry: Entry[Any]) -> dict[str, str]:
    """What was declared of a registered thing, in its own words where it has them."""
    describe = getattr(entry.value, "describe", None)
    said = dict(describe()) if callable(describe) else {key: str(value) for key, value in entry.meta.items() if key != "aliases"}
    return said | ({"also known as": ", ".join(entry.aliases)} if entry.aliases else {})
