"""`nodegraph nodes`: the installed node types."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.failures import warn_of_broken
from nodegraph.cli.help import epilog
from nodegraph.cli.options import complete, json_option, plugin_dir_option
from nodegraph.cli.plugins.describe import lookup, origin_object, port_facts, port_object, port_type, print_indented
from nodegraph.cli.tables import first_line, print_table
from nodegraph.terminal import echo, echo_json
from nodegraph.text import number

if TYPE_CHECKING:
    from nodegraph.node_types.spec import NodeSpec
    from nodegraph.plugins.registry import Entry


@click.command(epilog=epilog("nodegraph nodes", "nodegraph nodes TextEncode --json", "nodegraph nodes --plugin-dir my_plugins"))
@click.argument("name", required=False, shell_complete=complete("node_types"))
@plugin_dir_option
@json_option
def nodes(name: str | None, plugin_dirs: Sequence[Path], as_json: bool) -> None:
    """List the node types, or describe the one called NAME.

    The description has every input with its type, default and range, every output, and the plugin that the node type comes from.
    """
    from nodegraph.plugins.manager import load_plugins

    plugins = load_plugins(plugin_dirs, with_code=False)
    warn_of_broken(plugins)
    if as_json and name is None:
        echo_json(json.dumps([as_object(entry) for entry in plugins.nodes.entries()]))
    elif as_json:
        echo_json(json.dumps(as_object(lookup(plugins.nodes, name or ""))))
    elif name is None:
        rows = [(entry.name, first_line(entry.value.doc), entry.origin.plugin) for entry in plugins.nodes.entries()]
        print_table(("node", "what it does", "plugin"), rows)
    else:
        print_node_type(lookup(plugins.nodes, name))


def as_object(entry: Entry[NodeSpec]) -> dict[str, Any]:
    """The description of a node type for `--json`."""
    spec = entry.value
    return {
        "name": spec.name,
        "version": spec.version,
        "pure": spec.pure,
        "keep": spec.keep,
        "timeout": spec.timeout,
        "retries": spec.retries,
        "description": spec.doc,
        "inputs": [port_object(port) for port in spec.inputs],
        "outputs": [{"name": port.name, "type": port_type(port), "help": port.help} for port in spec.outputs],
        "foreign_names": list(spec.foreign_names),
        "from": origin_object(entry),
    }


def print_node_type(entry: Entry[NodeSpec]) -> None:
    """Print the description of a node type."""
    spec = entry.value
    properties = "" if spec.pure else ", not pure: runs every time"
    properties += "" if spec.keep else ", not kept: runs whenever a node needs its result"
    properties += f", timeout {number(spec.timeout)} s" if spec.timeout is not None else ""
    properties += f", {spec.retries} {'retry' if spec.retries == 1 else 'retries'}" if spec.retries else ""
    echo(f"{spec.name}, version {spec.version}{properties}")
    if spec.doc:
        echo(f"\n{spec.doc}")
    if spec.inputs:
        echo("\ninputs:")
        print_indented([(port.name, port_type(port), port_facts(port)) for port in spec.inputs])
    echo("\noutputs:")
    print_indented([(port.name, port_type(port), port.help) for port in spec.outputs])
    if spec.foreign_names:
        echo(f"\nin other programs: {', '.join(spec.foreign_names)}")
    echo(f"\nfrom: {entry.origin.plugin} ({entry.origin.place})")
