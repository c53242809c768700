"""Takes composed nodes apart into their items: the elements of `each`, repetitions, and the chosen case of a `Switch`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from nodegraph.errors import Location, Problem
from nodegraph.graph.expansion.decided import Decided
from nodegraph.graph.expansion.flat import Decider, FlatDocument
from nodegraph.graph.expansion.lists import Lists, lists_of
from nodegraph.graph.expansion.names import UNKNOWN
from nodegraph.graph.expansion.nesting import Nesting
from nodegraph.graph.expansion.outside import OverridesByNode
from nodegraph.graph.expansion.scopes import Given, Item, PlainItem, Scope, Use, WorkflowItem
from nodegraph.graph.expansion.switches import ON, SWITCH_INPUTS, Parts, switch_item
from nodegraph.graph.expansion.values import Values, is_linked
from nodegraph.graph.graph import Awaited
from nodegraph.graph.overrides import InputValue
from nodegraph.node_types.item_ports import item_port
from nodegraph.text import described, did_you_mean
from nodegraph.workflow.definitions import EACH, REPEAT, RESERVED_INPUTS, SWITCH, Link, NodeDef, ParamRef, is_workflow
from nodegraph.workflow.document import parse_value
from nodegraph.workflow.subworkflows import Source, SourceReader

MOST_ITEMS: Final = 100_000
MOST_REPETITIONS: Final = 1_000


class UseMaker:
    """Makes the uses of composed nodes, each when it is needed first."""

    def __init__(
        self,
        flat: FlatDocument,
        overrides: OverridesByNode,
        top: Mapping[str, InputValue],
        *,
        decided: Decided,
        problems: list[Problem],
    ) -> None:
        self._flat, self._overrides, self._problems, self._decided = flat, overrides, problems, decided.values
        self.reader = SourceReader(problems, decided.sources)
        self._nesting = Nesting()
        self.values = Values(flat=flat, top=top, overrides=overrides, use_of=self.use, problems=problems, nesting=self._nesting)

    def use(self, scope: Scope, node: NodeDef) -> Use | None:
        """The use of a composed node; None if it is wrong, which has been reported."""
        if node.name in scope.uses:
            return scope.uses[node.name]
        name = scope.prefix + node.name

        def circle() -> None:
            message = f"what node '{name}' stands for depends on its own outputs"
            self._problem("E109", message, node.where, "Remove one of the links.")

        def make() -> Use | None:
            scope.uses[node.name] = made = self._make(scope, node, name)
            return made

        return self._nesting.call(("use", name), make, circle)

    def _make(self, scope: Scope, node: NodeDef, name: str) -> Use | None:
        changed = self._with_overrides(scope, node, name)
        if changed is None:
            return None
        node = changed
        if EACH in node.inputs and REPEAT in node.inputs:
            message = f"node '{name}' has both 'each' and 'repeat'"
            self._problem("E119", message, node.where, "Put the repetition into a workflow, and use that with 'each'.")
            return None
        received: dict[str, Given] = {
            input: functools.cache(functools.partial(self.values.input, scope, node, input))
            for input in node.inputs
            if input not in RESERVED_INPUTS
        }
        source = self.reader.find(scope.source, node) if is_workflow(node.type) else None
        if source is None and is_workflow(node.type):
            return None
        if EACH not in node.inputs:
            item = self._item(scope, node, name, received, source=source, is_first=scope.is_first)
            return None if item is None else Use(node=node, name=name, items=[item], is_list=False)
        found = self._lists(scope, node, name)
        if found is None:
            return None
        items, waits = [], scope.waits or found.waits
        for index in range(found.length):
            mapped: dict[str, Given] = {input: values[index] for input, values in found.lists.items()}
            is_first = scope.is_first and index == 0
            item_name = f"{name}{UNKNOWN}" if found.is_example else f"{name}[{index}]"
            item = self._item(scope, node, item_name, received | mapped, source=source, is_first=is_first, waits=waits)
            if item is None:
                return None
            items.append(item)
        return Use(node=node, name=name, items=items, is_list=True, waits=found.waits)

    def _with_overrides(self, scope: Scope, node: NodeDef, name: str) -> NodeDef | None:
        """A node with what is given from outside for its `each` and `repeat`, or for the inputs of a `Switch`."""
        inputs = dict(node.inputs)
        for input in (*RESERVED_INPUTS, *(SWITCH_INPUTS if node.type == SWITCH else ())):
            try:
                found = self._overrides.value(name, input, inputs.get(input), scope.source.base)
                if found is not None:
                    inputs[input] = parse_value(found.value) if found.text and input != ON else found.value
            except ValueError as error:
                self._problem("E110", f"--set {name}.{input}: {error}", None)
                return None
            if found is not None and not scope.owner:
                self._flat.changed[node.name, input] = inputs[input]
        return replace(node, inputs=inputs)

    # --- each

    def _lists(self, scope: Scope, node: NodeDef, name: str) -> Lists | None:
        """The lists of `each`, item by item. They have the same length."""
        mapping, where = node.inputs[EACH], node.location(EACH)
        if not isinstance(mapping, dict) or not mapping:
            message = f"'each' of node '{name}': expected a mapping of inputs to lists, found {described(mapping)}"
            self._problem("E119", message, where, "Write 'each: {INPUT: [...]}'.")
            return None
        lists: dict[str, Sequence[InputValue]] = {}
        examples: dict[str, tuple[Awaited, ...]] = {}
        for input, value in mapping.items():
            if input in node.inputs:
                message = f"node '{name}' has '{input}' both as an input and in 'each'"
                self._problem("E119", message, node.location(input, key=True), "Remove one.")
                return None
            found = self._list(scope, f"'{input}' in 'each' of node '{name}'", value, where)
            if found is None:
                return None
            lists[input], waits = found
            if waits:
                examples[input] = waits
        lengths = {input: len(values) for input, values in lists.items() if input not in examples}
        if len(set(lengths.values())) > 1:
            counts = " and ".join(f"'{input}' has {n} item{'' if n == 1 else 's'}" for input, n in lengths.items())
            self._problem("E119", f"the lists in 'each' of node '{name}' differ in length: {counts}", where, "Make them equal.")
            return None
        return lists_of(lists, lengths, examples)

    def _list(
        self, scope: Scope, what: str, value: Any, where: Location | None
    ) -> tuple[Sequence[InputValue], tuple[Awaited, ...]] | None:
        """The items of a list, and what decides which items there are, if that is not known."""
        base = scope.source.base
        placed = InputValue(value=self.values.translated(scope, value, where), base=base, home=base, where=where, source=what)
        found, waits = self.values.followed(placed)
        items, count = found.value, None
        if isinstance(items, Link) and items.node not in self._flat.unread and self._is_node(scope, value):
            awaited = Awaited(items, is_length=True)
            length = self._decided.get(awaited)
            if length is None and not waits:
                self._flat.deciders[awaited] = Decider(awaited=awaited, user=what, where=found.where or where)
                waits = (awaited,)
            indexes = ["?"] if length is None else range(min(length, MOST_ITEMS + 1))
            items, count = [Link(items.node, item_port(items.port, index)) for index in indexes], length
        try:
            items = parse_value(items) if found.text else items
        except ValueError as error:
            self._problems.append(found.problem("E110", str(error)))
            return None
        if not isinstance(items, list | tuple):
            if waits:  # an example of what may be a list
                return [], waits
            if isinstance(items, ParamRef):  # without a value, or unknown
                if items.name not in self._flat.unread:
                    self._problem("E106", f"there is no param '{items.name}' ({what})", where, "Add it under 'params:'.")
            elif isinstance(value, Link) and value.node not in {*scope.source.document.nodes, *scope.source.document.unread}:
                hint = did_you_mean(value.node, scope.source.document.nodes)
                self._problem("E106", f"there is no node '{value.node}' ({what})", where, hint)
            elif not (isinstance(items, Link) and items.node in self._flat.unread):
                self._problem(
                    "E119", f"{what}: expected a list, found {described(items)}", found.where or where, "Put it in brackets."
                )
            return None
        if len(items) > MOST_ITEMS:
            message = f"{what} has {count or len(items):,} items; at most {MOST_ITEMS:,} are supported"
            self._problem("E119", message, found.where or where, "Use a shorter list.")
            return None
        home, at, source = found.home, found.where, found.source
        placed_items = [
            item if isinstance(item, InputValue) else InputValue(value=item, base=found.base, home=home, where=at, source=source)
            for item in items
        ]
        return placed_items, waits

    def _is_node(self, scope: Scope, value: Any) -> bool:
        """Whether what the workflow writes is no link, or one to a node that exists."""
        document = scope.source.document
        return not isinstance(value, Link) or value.node in document.nodes or value.node in document.unread

    # --- items

    def _item(
        self,
        scope: Scope,
        node: NodeDef,
        name: str,
        received: Mapping[str, Given],
        *,
        source: Source | None,
        is_first: bool,
        waits: tuple[Awaited, ...] = (),
    ) -> Item | None:
        if node.type == SWITCH:
            parts = Parts(flat=self._flat, values=self.values, problems=self._problems, decided=self._decided)
            return switch_item(node, name, received, parts)
        if source is None:
            if REPEAT in node.inputs:
                message = f"'repeat' of node '{name}': {node.type} is a node type, and only workflows are repeated"
                self._problem("E119", message, node.location(REPEAT, key=True), "Put the node into a workflow.")
                return None
            return PlainItem(name=name, received=received)
        unknown = [input for input in received if input not in source.document.params] if is_first else ()
        for input in unknown:
            if input not in source.document.unread:
                listed = f"Its params are {', '.join(source.document.params)}." if source.document.params else "It has no params."
                hint = did_you_mean(input, source.document.params) or listed
                message = f"{source.name} has no param '{input}' (node '{name}')"
                self._problem("E104", message, node.location(input, key=True), hint)

        def inner(owner: str, received: Mapping[str, Given], *, first: bool) -> Scope:
            return Scope(
                source=source,
                owner=owner,
                prefix=f"{owner}/",
                received=received,
                is_first=first,
                definition=node,
                waits=waits or scope.waits,
            )

        if REPEAT in node.inputs:
            return self._repeated(scope, node, name, inner=inner, received=received)
        return WorkflowItem(scopes=[inner(name, received, first=is_first)])

    def _repeated(
        self, scope: Scope, node: NodeDef, name: str, *, inner: Callable[..., Scope], received: Mapping[str, Given]
    ) -> WorkflowItem | None:
        """The repetitions of a sub-workflow, each fed by the one before. Params that are not carried have one value for all."""
        where = node.location(REPEAT)
        found = self.values.known(self.values.input(scope, node, REPEAT)).value
        fields = found if isinstance(found, dict) else {}
        if fields.keys() != {"times", "carry"} or not isinstance(fields["carry"], dict):
            message = f"'repeat' of node '{name}': expected 'times' and 'carry', found {described(found)}"
            self._problem("E119", message, where, "Write 'repeat: {times: 3, carry: {INPUT: OUTPUT}}'.")
            return None
        base = scope.source.base
        counted = self.values.known(InputValue(value=fields["times"], base=base, home=base, where=where))
        try:
            times = parse_value(counted.value) if counted.text else counted.value
        except ValueError:
            times = counted.value
        if isinstance(times, bool) or not isinstance(times, int) or not 1 <= times <= MOST_REPETITIONS:
            message = f"'times' in 'repeat' of node '{name}': expected a whole number from 1 to {MOST_REPETITIONS}"
            hint = "It must be known before the run." if is_linked(times) else ""
            self._problem("E119", f"{message}, found {described(times)}", counted.where or where, hint)
            return None
        carry: Mapping[str, Any] = fields["carry"]
        first = inner(f"{name}[0]", received, first=scope.is_first)
        for input, output in carry.items():
            document = first.source.document
            if input not in document.params:
                hint = did_you_mean(input, document.params) or f"Its params are {', '.join(document.params)}."
                self._problem("E104", f"{first.source.name} has no param '{input}' ('carry' of node '{name}')", where, hint)
                return None
            if output not in document.outputs:
                hint = did_you_mean(str(output), document.outputs) or f"Its outputs are {', '.join(document.outputs)}."
                self._problem("E107", f"{first.source.name} has no output '{output}' ('carry' of node '{name}')", where, hint)
                return None
        scopes = [first]
        for index in range(1, times):
            before = scopes[-1]
            shared: dict[str, Given] = {
                param: functools.partial(self._shared, first, param) for param in first.source.document.params if param not in carry
            }
            carried: dict[str, Given] = {
                input: functools.partial(self._carried, before, output, where) for input, output in carry.items()
            }
            scopes.append(inner(f"{name}[{index}]", shared | carried, first=False))
            for input in carry:
                self.values.param(scopes[-1], input)  # in order, so that no value is found through all others
        return WorkflowItem(scopes=scopes)

    def _shared(self, scope: Scope, param: str) -> InputValue | None:
        bound = self.values.param(scope, param)
        if bound is None or is_linked(bound):
            return bound
        return InputValue(value=ParamRef(f"{scope.owner}.{param}"), base=bound.base, home=bound.home, where=bound.where)

    def _carried(self, scope: Scope, output: str, where: Location | None) -> InputValue:
        base = scope.source.base
        return InputValue(value=self.values.output(scope, output, where), base=base, home=base, where=where)

    def _problem(self, code: str, message: str, where: Location | None, hint: str = "") -> None:
        self._problems.append(Problem(code, message, where, hint))
