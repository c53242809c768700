"""What looks like an oversight in a workflow that is correct: things that are not used, names that are nearly the same."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator
from typing import Any

from nodegraph.errors import Location
from nodegraph.light_dataclass import dataclass
from nodegraph.text import described
from nodegraph.workflow.definitions import NAME, PARAMS, ParamRef, references
from nodegraph.workflow.workflow import Workflow

_INSIDE_TEXT = re.compile(rf"\${PARAMS}\.{NAME.pattern}")


@dataclass(frozen=True)
class Remark:
    """An oversight, and where it is."""

    message: str
    where: Location | None = None

    def __str__(self) -> str:
        return f"{self.where} {self.message}" if self.where else self.message


def remarks(workflow: Workflow) -> list[Remark]:
    """The oversights in a checked workflow, in the order of the file."""
    found = [*_unused_params(workflow), *_unused_nodes(workflow), *_similar_outputs(workflow), *_params_in_text(workflow)]
    return sorted(found, key=lambda remark: (remark.where.line, remark.where.column) if remark.where else (0, 0))


def _unused_params(workflow: Workflow) -> Iterator[Remark]:
    used = {ref.name for node in workflow.nodes.values() for ref in references(dict(node.inputs)) if isinstance(ref, ParamRef)}
    for output in workflow.outputs.values():
        used |= {ref.name for ref in references(dict(output.options)) if isinstance(ref, ParamRef)}
        used |= {field for _, field, _, _ in string.Formatter().parse(output.save or "") if field}
    for param in workflow.params.values():
        if param.name not in used:
            yield Remark(f"param '{param.name}' is not used. Refer to it with '$params.{param.name}', or remove it", param.where)


def _unused_nodes(workflow: Workflow) -> Iterator[Remark]:
    if not workflow.outputs:
        yield Remark("the workflow has no outputs, so a run needs a target. Add 'outputs:'")
        return
    pending = [output.link.node for output in workflow.outputs.values()]
    used: set[str] = set()
    while pending:
        name = pending.pop()
        if name not in used:
            used.add(name)
            inputs = dict(workflow.nodes[name].inputs)
            pending += [ref.node for ref in references(inputs) if not isinstance(ref, ParamRef)]
    for node in workflow.nodes.values():
        if node.name not in used:
            yield Remark(f"node '{node.name}' is not used: no output depends on it. Add an output, or remove the node", node.where)


def _similar_outputs(workflow: Workflow) -> Iterator[Remark]:
    first: dict[str, str] = {}
    for output in workflow.outputs.values():
        other = first.setdefault(output.name.casefold(), output.name)
        if other != output.name:
            yield Remark(f"outputs '{other}' and '{output.name}' differ only in case. Rename one", output.where)


def _params_in_text(workflow: Workflow) -> Iterator[Remark]:
    values = [(f"param '{param.name}'", param.default, param.where) for param in workflow.params.values()]
    for node in workflow.nodes.values():
        values += [(f"'{input}' of node '{node.name}'", value, node.location(input)) for input, value in node.inputs.items()]
    for what, value, where in values:
        found = _reference_in(value)
        if found:
            yield Remark(f"{what} has {described(found)} inside text, where it stays as it is; a param is a whole value", where)


def _reference_in(value: Any) -> str | None:
    """The first reference to a param inside text; None if `value` is not text, or nothing but the escaped name of a param."""
    found = _INSIDE_TEXT.search(value) if isinstance(value, str) else None
    return found[0] if found and found[0] != value else None
