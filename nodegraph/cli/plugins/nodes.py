"""`nodegraph nodes`: the installed node types."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from nodegraph.cli.failures import warn_of_broken
from nodegraph.cli.help import epilog
from nodegraph.cli.options import plugin_dir_option
from nodegraph.cli.plugins.describe import lookup, port_facts, print_indented
from nodegraph.cli.tables import first_line, print_table
from nodegraph.node_types.port_types import type_name

if TYPE_CHECKING:
    from nodegraph.node_types.spec import NodeSpec, Port
    from nodegraph.plugins.registry import Entry


@click.command(epilog=epilog("nodegraph nodes", "nodegraph nodes --plugin-dir my_plugins"))
@click.argument("name", required=False)
@plugin_dir_option
def nodes(name: str | None, plugin_dirs: Sequence[Path]) -> None:
    """List the node types, or describe the one called NAME.

    The description has every input with its type, default and range, every output, and the plugin that the node type comes from.
    """
    from nodegraph.plugins.manager import load_plugins

    plugins = load_plugins(plugin_dirs)
    warn_of_broken(plugins)
    if name is None:
        rows = [(entry.name, first_line(entry.value.doc), entry.origin.plugin) for entry in plugins.nodes.entries()]
        print_table(("node", "what it does", "plugin"), rows)
    else:
        print_node_type(lookup(plugins.nodes, name))


def print_node_type(entry: Entry[NodeSpec]) -> None:
    """Print the description of a node type."""
    spec = entry.value
    click.echo(f"{spec.name}, version {spec.version}" + ("" if spec.pure else ", not pure: runs every time"))
    if spec.doc:
        click.echo(f"\n{spec.doc}")
    if spec.inputs:
        click.echo("\ninputs:")
        print_indented([(port.name, _type(port), port_facts(port)) for port in spec.inputs])
    click.echo("\noutputs:")
    print_indented([(port.name, _type(port), port.help) for port in spec.outputs])
    if spec.foreign_names:
        click.echo(f"\nin other programs: {', '.join(spec.foreign_names)}")
    click.echo(f"\nfrom: {entry.origin.plugin} ({entry.origin.place})")


def _type(port: Port) -> str:
    if port.choice:
        return "name"
    if port.seed:
        return "seed"
    if port.reads:
        return "path"
    return type_name(port.type)
