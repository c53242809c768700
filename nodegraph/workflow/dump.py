"""Writes a workflow as YAML text."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.node_types.spec import MISSING
from nodegraph.text import described
from nodegraph.workflow.definitions import FORMAT, TAKES, Document, ParamDef, written_save
from nodegraph.workflow.scalars import NONE_KEY, as_yaml, unwritable


def dump(workflow: Document, *, all_values: bool = True) -> str:
    """The workflow as YAML. Reading it gives a workflow with the same meaning.

    Raises WorkflowError with every value that YAML cannot hold. With `all_values` False, the type of such a value is written.
    """
    problems = list(_unwritable(workflow)) if all_values else []
    if problems:
        raise WorkflowError(problems)
    lines = [f"nodegraph: {FORMAT}", f"name: {as_yaml(workflow.name)}"]
    if workflow.description:
        lines.append(f"description: {as_yaml(workflow.description)}")
    lines += _content(workflow)
    if workflow.values:
        lines += ["values:", *(f"  {as_yaml({name: value})[1:-1]}" for name, value in workflow.values.items())]
    if workflow.workflows:
        lines.append("workflows:")
        for name, inner in workflow.workflows.items():
            described = [f"description: {as_yaml(inner.description)}"] if inner.description else []
            described += [f"folder: {as_yaml(inner.folder)}"] if inner.folder else []
            lines += [f"  {name}:", *(f"    {line}" for line in [*described, *_content(inner)])]
    if workflow.sweep is not None:
        lines.append(f"sweep: {as_yaml(workflow.sweep)}")
    return "\n".join(lines) + "\n"


def _content(workflow: Document) -> list[str]:
    """The lines of the params, nodes and outputs."""
    lines = []
    if workflow.params:
        lines.append("params:")
        lines += [f"  {param.name}: {as_yaml(_param(param))}" for param in workflow.params.values()]
    lines.append("nodes:" if workflow.nodes else "nodes: {}")
    for node in workflow.nodes.values():
        lines += _block(node.name, {"use": node.type, **node.inputs, **({TAKES: node.takes} if node.takes else {})})
    if workflow.outputs:
        lines.append("outputs:")
        for output in workflow.outputs.values():
            fields = {"from": output.link} | (
                {"save": written_save(output.save, output.options)} if output.save is not None else {}
            )
            lines.append(f"  {output.name}: {as_yaml(fields)}")
    return lines


def _unwritable(workflow: Document) -> Iterator[Problem]:
    values = [
        (f"'{input}' of node '{n.name}'", v, n.location(input)) for n in workflow.nodes.values() for input, v in n.inputs.items()
    ]
    values += [(f"the default of param '{param.name}'", param.default, param.where) for param in workflow.params.values()]
    values += _other_values(workflow)
    for inner in workflow.workflows.values():
        yield from _unwritable(inner)
    for what, value, where in values:
        part = unwritable(value) if value is not MISSING else None
        if part is not None:
            message = f"{what} holds {described(part)} of type {type(part).__name__}, which a file cannot hold"
            yield Problem("E110", message, where, _way_out(part))


def _way_out(part: Any) -> str:
    """What to do about a part that a file cannot hold."""
    if isinstance(part, str):
        return "Give text that is Unicode."
    if isinstance(part, list | tuple | dict):
        return "Use fewer levels."
    if isinstance(part, int) and unwritable(part) is not None:
        return "Use a number with fewer digits."
    if part is NONE_KEY or isinstance(part, int | float):
        return "The keys of a mapping are text: write it in quotes."
    return "Save it to a file, and give its path to a node that reads it."


def _other_values(workflow: Document) -> Iterator[tuple[str, Any, Location | None]]:
    """What a workflow holds besides the inputs of nodes and the defaults of params."""
    yield from (("the name", workflow.name, None), ("the description", workflow.description, None))
    yield "'sweep'", workflow.sweep, None
    yield "'values'", workflow.values, None
    yield from ((f"node '{node.name}'", node.type, node.where) for node in workflow.nodes.values())
    for param in workflow.params.values():
        yield f"param '{param.name}'", [param.min, param.max, param.help], param.where
    for output in workflow.outputs.values():
        yield f"'save' of output '{output.name}'", [output.save, dict(output.options)], output.where


def _param(param: ParamDef) -> Any:
    fields = {"type": param.type, "min": param.min, "max": param.max, "help": param.help or None}
    fields = {key: value for key, value in fields.items() if value is not None}
    if not fields and param.default is not MISSING and not isinstance(param.default, dict):
        return param.default
    return ({} if param.default is MISSING else {"default": param.default}) | fields


def _block(name: str, fields: dict[str, Any]) -> list[str]:
    """A node on one line if it is short enough, otherwise with one line for each input."""
    line = f"  {name}: {as_yaml(fields)}"
    if len(line) <= 120:
        return [line]
    return [f"  {name}:", *(f"    {key}: {as_yaml(value)}" for key, value in fields.items())]
