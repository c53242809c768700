"""Writes out a workflow: every sub-workflow, `each`, `repeat` and `Switch` becomes the plain nodes that it stands for.

The result means what a workflow would mean in which a person wrote these nodes by hand, so each node has the key that it would have
there. Values keep where they were written: relative paths start from the folder of their file, and messages name it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from nodegraph.errors import Problem, WorkflowError
from nodegraph.graph.expansion.decided import Decided
from nodegraph.graph.expansion.flat import FlatDocument
from nodegraph.graph.expansion.names import matches
from nodegraph.graph.expansion.outside import OverridesByNode
from nodegraph.graph.expansion.scopes import PlainItem, Scope, Use, WorkflowItem
from nodegraph.graph.expansion.uses import UseMaker
from nodegraph.graph.graph import Awaited
from nodegraph.graph.overrides import InputValue, Override
from nodegraph.text import did_you_mean, shortened
from nodegraph.workflow.definitions import Link, NodeDef, references
from nodegraph.workflow.subworkflows import Source
from nodegraph.workflow.workflow import Workflow

MOST_NODES: Final = 250_000
"""How many nodes and sub-workflows a workflow may stand for."""

MOST_CHARACTERS: Final = 400_000_000
"""How long the full names of these may be together: each is longer than that of the workflow around it."""


class Expansion:
    """A workflow that is written out: `flat` holds its plain nodes, and `overrides` what remains to be applied to them.

    `top` is the scope of the workflow itself, and `reader` has read the others. Mistakes are added to `problems`. Raises
    WorkflowError if the workflow stands for too many nodes.
    """

    def __init__(self, workflow: Workflow, overrides: Sequence[Override], decided: Decided, problems: list[Problem]) -> None:
        self.flat = FlatDocument(workflow.name)
        self._problems, self._count, self._characters = problems, 0, 0
        by_node = OverridesByNode(overrides)
        self._maker = UseMaker(self.flat, by_node, _params(workflow, overrides), decided=decided, problems=problems)
        self.reader = self._maker.reader
        source = Source(name=_file(workflow), document=workflow, base=workflow.base, named=workflow.workflows)
        self.top = Scope(source=source, owner="", prefix="", received={}, is_first=True)
        self.reader.read(source)
        self._flatten(workflow)
        self.overrides = [named for override in by_node.remaining() for named in self._by_full_name(override)]

    def value_of(self, name: str) -> Any:
        """What `node` or `node.port` stands for, if it is a composed node of the workflow or inside one; None if it is not.

        The name of a node in items means the list of its values in all items.
        """
        node, _, port = name.partition(".")
        definition = self.top.source.document.nodes.get(node)
        if definition is not None and node in self.top.source.composed:
            return self._maker.values.translated(self.top, Link(node, port or None), None)
        found = [Link(full, port or None) for full in self.flat.nodes if matches(node, full)]
        return found if found and node not in self.flat.nodes else None

    def sizes(self) -> dict[str, int]:
        """The number of items of each node of the workflow itself that has `each`, if it is known."""
        uses = self.top.uses.items()
        return {name: len(use.items) for name, use in uses if use is not None and use.is_list and not use.waits}

    def _flatten(self, workflow: Workflow) -> None:
        self.flat.params = dict(workflow.params)
        try:
            self._add_scopes(self.top)
        except RecursionError:
            raise _too_much("is nested too deep") from None
        for output in workflow.outputs.values():
            if output.link.node in self.top.source.composed:
                self.flat.outputs_of[output.name] = self._maker.values.translated(self.top, output.link, output.where)
        self.flat.outputs = workflow.outputs

    def _add_scopes(self, top: Scope) -> None:
        """Add the nodes of a scope, and those of the scopes inside it, in the order of the workflows."""
        walks = [self._walk(top)]
        while walks:
            inner = next(walks[-1], None)
            if inner is None:
                walks.pop()
            else:
                walks.append(self._walk(inner))

    def _walk(self, scope: Scope) -> Iterator[Scope]:
        """Add the nodes of a scope; the scopes inside it, each of which is to be added before this goes on."""
        self._add_to_count(scope.prefix)
        document = scope.source.document
        names = document.unread
        self.flat.unread |= {scope.prefix + name for name in names} | {f"{scope.owner}.{name}" for name in names}
        if scope.owner:
            for param in document.params:
                self._maker.values.param(scope, param)
        for node in document.nodes.values():
            if node.name in scope.source.composed:
                use = self._maker.use(scope, node)
                if use is None:
                    self.flat.unread.add(scope.prefix + node.name)
                else:
                    yield from self._add_use(scope, use)
            elif scope.prefix or self._leads_to_composed(scope, node):
                inputs = {
                    input: self._maker.values.translated(scope, value, node.location(input)) for input, value in node.inputs.items()
                }
                self._add(scope, replace(node, name=scope.prefix + node.name, inputs=inputs))
            else:
                self._add(scope, node)

    def _add_use(self, scope: Scope, use: Use) -> Iterator[Scope]:
        """Add the items of a composed node; the scopes of sub-workflows."""
        shared: dict[str, Any] = {}
        for item in use.items:
            if isinstance(item, WorkflowItem):
                yield from item.scopes
            elif isinstance(item, PlainItem):
                inputs = {}
                for input, received in item.received.items():
                    if callable(received):
                        if input not in shared:
                            shared[input] = received()
                        inputs[input] = shared[input]
                    else:
                        inputs[input] = received
                node = use.node
                self._add(scope, replace(node, name=item.name, inputs=inputs), waits=scope.waits or use.waits)
        if not use.items and use.node.type[0] not in "#./":
            self.flat.unused.append(use.node)

    def _add(self, scope: Scope, node: NodeDef, *, waits: tuple[Awaited, ...] = ()) -> None:
        self._add_to_count(node.name)
        self.flat.nodes[node.name] = node
        if waits or scope.waits:
            self.flat.undecided[node.name] = waits or scope.waits
        if scope.source.base is not self.top.source.base:
            self.flat.bases[node.name] = scope.source.base

    def _add_to_count(self, name: str) -> None:
        self._count += 1
        self._characters += len(name)
        if self._count > MOST_NODES:
            raise _too_much(f"stands for more than {MOST_NODES:,} nodes")
        if self._characters > MOST_CHARACTERS:
            message = f"stands for nodes whose full names have more than {MOST_CHARACTERS:,} characters"
            raise _too_much(f"{message}, such as '{shortened(name)}'")

    def _leads_to_composed(self, scope: Scope, node: NodeDef) -> bool:
        composed = scope.source.composed
        return any(isinstance(ref, Link) and ref.node in composed for value in node.inputs.values() for ref in references(value))

    def _by_full_name(self, override: Override) -> Iterable[Override]:
        """An override for each node that it means."""
        node, dot, rest = override.name.partition(".")
        if not dot or node in self.flat.nodes:
            return [override]
        if node in self.top.source.composed and node not in self.flat.unread:
            names = [name for name in self.flat.nodes if matches(node, name)]
            if not names:
                self._report(override, node, rest)
                return []
        else:
            names = [name for name in self.flat.nodes if matches(node, name)]
        full = (replace(override, name=f"{name}.{rest}") for name in names)
        return list(full) or [override]

    def _report(self, override: Override, node: str, rest: str) -> None:
        """Report an override for an input that a composed node does not have."""
        use = self.top.uses.get(node)
        params: Mapping[str, Any] = {}
        if use is not None and use.items and isinstance(use.items[0], WorkflowItem):
            params = use.items[0].scopes[0].source.document.params
        hint = did_you_mean(rest, params) or (f"Its params are {', '.join(params)}." if params else "")
        self._problems.append(Problem("E120", f"{override.source}: node '{node}' has no input '{rest}'", override.where, hint))


def _params(workflow: Workflow, overrides: Sequence[Override]) -> dict[str, InputValue]:
    """The values of the params of the workflow itself."""
    base = workflow.base
    values = {
        name: InputValue(value=param.default, base=base, home=base, where=param.where, source=f"param '{name}'")
        for name, param in workflow.params.items()
    }
    for override in overrides:
        if override.name in values:
            values[override.name] = override.value_in(base)
    return values


def _file(workflow: Workflow) -> str:
    """What messages call the workflow itself: its file, if it was read from one."""
    where = next((node.where for node in workflow.nodes.values() if node.where is not None), None)
    return where.file if where is not None else workflow.name


def _too_much(message: str) -> WorkflowError:
    return WorkflowError([Problem("E119", f"the workflow {message}", None, "Use fewer items or levels.")])
