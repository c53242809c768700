"""Suggestions for names in `--set` that are neither a param nor `node.input`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from nodegraph.node_types import literals
from nodegraph.node_types.spec import NodeSpec
from nodegraph.plugins.registry import Entry
from nodegraph.text import closest, did_you_mean, either
from nodegraph.workflow.definitions import Document, Link, ParamRef

_MOST: Final = 4  # names that a message suggests


def suggest_input(name: str, workflow: Document, types: Mapping[str, Entry[NodeSpec]]) -> str:
    """Ask whether a param or an input of a node was meant by `name`; "" if nothing is close.

    An input that has exactly this name comes first, then a param or `node.input` of a similar spelling, then an input of one.
    """
    inputs = _inputs(workflow, types)
    if name in inputs:
        return _ask(inputs[name])
    dotted = (f"{node.name}.{input}" for node in workflow.nodes.values() for input in node.inputs)
    hint = did_you_mean(name, [*workflow.params, *dotted])
    if hint or "." in name:
        return hint
    close = closest(name, inputs)
    return _ask(inputs[close]) if close else ""


def _inputs(workflow: Document, types: Mapping[str, Entry[NodeSpec]]) -> dict[str, list[str]]:
    """For each name of an input that takes a value: how `--set` names these inputs, `node.input` or the param that feeds it."""
    names: dict[str, list[str]] = {}
    for node in workflow.nodes.values():
        for port in types[node.name].value.inputs if node.name in types else ():
            value = node.inputs.get(port.name)
            if literals.is_plain(port) and not isinstance(value, Link):
                names.setdefault(port.name, []).append(value.name if isinstance(value, ParamRef) else f"{node.name}.{port.name}")
    return names


def _ask(names: Iterable[str]) -> str:
    return f"Did you mean {either(list(dict.fromkeys(names))[:_MOST])}?"
