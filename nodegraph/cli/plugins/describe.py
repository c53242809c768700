"""Text about ports and registered things, for the listings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.tables import aligned, plain_json
from nodegraph.node_types.port_types import type_name
from nodegraph.terminal import echo

if TYPE_CHECKING:
    from nodegraph.node_types.spec import Port
    from nodegraph.plugins.registry import Entry, Registry


def lookup(registry: Registry[Any], name: str, others: Iterable[Registry[Any]] = ()) -> Entry[Any]:
    """The entry called `name`. Raises UsageError with a suggestion if there is none, which may also name an entry of `others`."""
    if name not in registry:
        hint = registry.split(name, others) or registry.suggest(name)
        raise click.UsageError(f"There is no {registry.singular} '{name}'. {hint}")
    return registry.get(name)


def origin_object(entry: Entry[Any]) -> dict[str, Any]:
    """Where a registered thing comes from, for `--json`."""
    return {"plugin": entry.origin.plugin, "place": entry.origin.place}


def port_object(port: Port) -> dict[str, Any]:
    """An input, output or option, for `--json`. An input that must be given has no `default`."""
    facts: dict[str, Any] = {"name": port.name, "type": port_type(port), "required": port.required}
    if not port.required:
        facts["default"] = plain_json(port.default)
    if port.range:
        facts |= {"min": port.range.low, "max": port.range.high}
    if port.choice:
        facts["registry"] = port.choice.registry
    if port.options_of:
        facts["options_of"] = port.options_of.input
    return facts | ({"help": port.help} if port.help else {})


def port_type(port: Port) -> str:
    """The type of an input as people write it down: a name, a seed, a path, or what its annotation says."""
    if port.choice:
        return "name"
    if port.seed:
        return "seed"
    return "path" if port.reads else type_name(port.type)


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
        echo(f"  {line}")
