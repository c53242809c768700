"""Text about ports and registered things, for the listings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.tables import aligned

if TYPE_CHECKING:
    from nodegraph.node_types.spec import Port
    from nodegraph.plugins.registry import Entry, Registry


def lookup(registry: Registry[Any], name: str) -> Entry[Any]:
    """The entry called `name`. Raises UsageError with a suggestion if there is none."""
    if name not in registry:
        raise click.UsageError(f"There is no {registry.singular} '{name}'. {registry.suggest(name)}")
    return registry.get(name)


def port_facts(port: Port) -> str:
    """What a user needs to know about an input besides its type: default, range, choices, help."""
    from nodegraph.workflow.scalars import as_yaml

    facts = ["required" if port.required else "optional" if port.default is None else f"default {as_yaml(port.default)}"]
    if port.range:
        low, high = port.range.low, port.range.high
        if low is not None and high is not None:
            facts.append(f"{low:g} to {high:g}" if max(abs(low), abs(high)) < 1e6 else f"from {low:g}")
        elif low is not None:
            facts.append(f"at least {low:g}")
        elif high is not None:
            facts.append(f"at most {high:g}")
    if port.choice:
        facts.append(f"one of 'nodegraph {port.choice.registry}'")
    if port.options_of:
        facts.append(f"options of the chosen {port.options_of.input}")
    if port.help:
        facts.append(port.help)
    return "; ".join(facts)


def print_indented(rows: Sequence[Sequence[str]]) -> None:
    """Print aligned rows with two spaces before each."""
    for line in aligned(rows):
        click.echo(f"  {line}")
