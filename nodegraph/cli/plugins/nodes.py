"""`nodegraph nodes`: the node types there are."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.failures import warn_of_broken
from nodegraph.cli.options import plugin_dir_option
from nodegraph.cli.tables import aligned, first_line, print_table
from nodegraph.node_types.literals import type_name

if TYPE_CHECKING:
    from nodegraph.node_types.spec import NodeSpec, Port
    from nodegraph.plugins.registry import Entry


@click.command()
@click.argument("name", required=False)
@plugin_dir_option
def nodes(name: str | None, plugin_dirs: Sequence[Path]) -> None:
    """List the node types, or describe the one called NAME."""
    from nodegraph.cli.plugins.registries import lookup
    from nodegraph.plugins.manager import load_plugins

    plugins = load_plugins(plugin_dirs)
    warn_of_broken(plugins)
    if name is None:
        rows = [(entry.name, first_line(entry.value.doc), entry.origin.plugin) for entry in plugins.nodes.entries()]
        print_table(("node", "what it does", "plugin"), rows)
    else:
        _describe(lookup(plugins.nodes, name))


def _describe(entry: Entry[NodeSpec]) -> None:
    spec = entry.value
    click.echo(f"{spec.name}, version {spec.version}" + ("" if spec.pure else ", not pure: runs every time"))
    if spec.doc:
        click.echo(f"\n{spec.doc}")
    if spec.inputs:
        click.echo("\ninputs:")
        _print([(port.name, _type(port), facts(port)) for port in spec.inputs])
    click.echo("\noutputs:")
    _print([(port.name, _type(port), port.help) for port in spec.outputs])
    if spec.foreign_names:
        click.echo(f"\nelsewhere: {', '.join(spec.foreign_names)}")
    click.echo(f"\nfrom: {entry.origin.plugin} ({entry.origin.place})")


def _print(rows: Sequence[Sequence[str]]) -> None:
    for line in aligned(rows):
        click.echo(f"  {line}")


def facts(port: Port) -> str:
    """What is to know about an input beside its type: default, range, choices, help."""
    said = ["required" if port.required else f"default {_literal(port.default)}"]
    if port.range:
        low, high = port.range.low, port.range.high
        if low is not None and high is not None:
            said.append(f"{low:g} to {high:g}" if max(abs(low), abs(high)) < 1e6 else f"from {low:g}")
        elif low is not None:
            said.append(f"at least {low:g}")
        elif high is not None:
            said.append(f"at most {high:g}")
    if port.choice:
        said.append(f"one of 'nodegraph {port.choice.registry}'")
    if port.options_of:
        said.append(f"of the {port.options_of.input} that is named")
    if port.help:
        said.append(port.help)
    return "; ".join(said)


def _literal(value: Any) -> str:
    """A default as YAML writes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return "none" if value is None else str(value) or '""'


def _type(port: Port) -> str:
    if port.choice:
        return "name"
    if port.seed:
        return "seed"
    if port.reads:
        return "path"
    return type_name(port.type)
