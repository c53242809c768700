"""Values in terms of the flat graph: references inside sub-workflows, and the params and outputs that they lead to."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from nodegraph.errors import Location, Problem
from nodegraph.graph.expansion.flat import Border, Chosen, FlatDocument, Limited, Unknown, location
from nodegraph.graph.expansion.nesting import Nesting
from nodegraph.graph.expansion.outside import OverridesByNode
from nodegraph.graph.expansion.scopes import Given, Item, PlainItem, Scope, SwitchItem, Use
from nodegraph.graph.graph import Awaited, Limit
from nodegraph.graph.overrides import InputValue
from nodegraph.node_types.spec import MISSING, SINGLE_OUTPUT, Range
from nodegraph.text import did_you_mean, shortened
from nodegraph.workflow.definitions import Link, NodeDef, OutputDef, ParamDef, ParamRef, Wrapped, references
from nodegraph.workflow.scalars import as_yaml

_DEEPEST_LISTS: Final = 64


class Values:
    """Follows references. `top` holds the params of the workflow itself; `use_of` returns the use of a composed node in a scope."""

    def __init__(
        self,
        *,
        flat: FlatDocument,
        top: Mapping[str, InputValue],
        overrides: OverridesByNode,
        use_of: Callable[[Scope, NodeDef], Use | None],
        problems: list[Problem],
        nesting: Nesting,
    ) -> None:
        self._flat, self._top, self._overrides = flat, top, overrides
        self._use_of, self._problems, self._nesting = use_of, problems, nesting
        self._ends: dict[str, InputValue] = {}  # what is behind params
        self._depths: dict[int, tuple[list[Any], int]] = {}  # of lists of items, by the id of the list

    def input(self, scope: Scope, node: NodeDef, input: str) -> InputValue:
        """What an input of a node in `scope` receives."""
        base, where = scope.source.base, location(node, input)
        source = f"'{input}' of node '{scope.prefix}{node.name}'"
        value = self.translated(scope, node.inputs[input], where)
        if isinstance(value, InputValue):  # which says itself where it was written
            return value
        return InputValue(value=value, base=base, home=base, where=where, source=source)

    def translated(self, scope: Scope, value: Any, where: Location | None) -> Any:
        """A value as the flat graph has it: with its names for nodes and params, and without links to composed nodes."""
        if isinstance(value, Link):
            return self._link(scope, value, where)
        if isinstance(value, ParamRef) and scope.owner:
            bound = self.param(scope, value.name)
            return bound if bound is not None and is_linked(bound) else ParamRef(f"{scope.owner}.{value.name}")
        if isinstance(value, list | dict) and next(references(value), None) is None:
            return value
        if isinstance(value, list):
            return self._as_list(self._all(scope, value, where), scope.owner, where)
        if isinstance(value, dict):
            return dict(zip(value, self._all(scope, value.values(), where), strict=True))
        return value

    def _all(self, scope: Scope, values: Iterable[Any], where: Location | None) -> list[Any]:
        return self._nesting.all(functools.partial(self.translated, scope, value, where) for value in values)

    def param(self, scope: Scope, name: str) -> InputValue | None:
        """The value of a param in a scope; None if it has none, which has been reported."""
        if not scope.owner:
            return self._top.get(name)
        flat_name = f"{scope.owner}.{name}"
        bound = self._flat.bound.get(flat_name)
        definition = scope.source.document.params.get(name)
        if bound is not None or definition is None or flat_name in self._flat.unread:
            return bound
        bind, circle = (functools.partial(f, scope, definition, flat_name) for f in (self._bind, self._circle))
        return self._nesting.call(("param", flat_name), bind, circle)

    def _bind(self, scope: Scope, definition: ParamDef, flat_name: str) -> InputValue | None:
        """Give a param in a scope its value."""
        found = self._received(scope, definition)
        if found is None:
            self._flat.unread.add(flat_name)
            return None
        is_link = is_linked(found)
        bare = _without_limits(found)
        if is_link and (definition.min is not None or definition.max is not None):
            limit = Limit(Range(definition.min, definition.max), f"param '{definition.name}' of {scope.source.name}")
            outer = found.value if isinstance(found.value, Limited) else None
            found = replace(found, value=Limited(found.value if outer is None else outer.value, limit, outer))
        self._flat.bound[flat_name] = found
        if is_link:
            if definition.type is not None:
                node = NodeDef(scope.owner, scope.source.name, {}, where=definition.where)
                self._flat.borders.append(Border(node=node, param=definition, value=bare))
        else:
            self._flat.params[flat_name] = ParamDef(
                name=flat_name,
                default=definition.default,
                type=definition.type,
                min=definition.min,
                max=definition.max,
                where=definition.where,
            )
            if scope.is_first and isinstance(found.value, ParamRef):
                self._flat.aliases.append((flat_name, found.value.name))
        return found

    def known(self, value: Any) -> InputValue:
        """The value behind params, choices and what else is wrapped around it: a literal, a list, or a link to a plain node."""
        return self.followed(value)[0]

    def followed(self, value: Any) -> tuple[InputValue, tuple[Awaited, ...]]:
        """What `known` returns, and what decides whether it is this value, if that is not known."""
        found, waits = value if isinstance(value, InputValue) else None, dict[Awaited, None]()
        params: list[str] = []
        for _ in range(3 * (len(self._flat.bound) + len(self._top)) + 10):
            inner = found.value if found is not None else value
            if isinstance(inner, ParamRef):
                if inner.name in self._ends:
                    found = self._ends[inner.name]
                    break
                if inner.name in self._flat.bound and not waits:
                    params.append(inner.name)
                following = self._flat.bound.get(inner.name) or self._top.get(inner.name)
                if following is None:
                    break
                found = following
            elif isinstance(inner, InputValue):
                found = inner
            elif isinstance(inner, Limited):
                found = inner.value if found is None else replace(found, value=inner.value)
            elif isinstance(inner, Chosen):
                value = inner.value
                found = value if isinstance(value, InputValue) else None
            elif isinstance(inner, Unknown):
                waits |= dict.fromkeys(inner.waits)
                found = inner.value if found is None else replace(found, value=inner.value)
            else:
                break
        assert found is not None  # every value that is followed has been placed
        if not waits:
            self._ends |= dict.fromkeys(params, found)
        return found, (*waits,)

    def port(self, use: Use, port: str | None, where: Location | None) -> Any:
        """What an output of a composed node stands for: with `each`, a list with one value for each item."""
        if not use.is_list:
            return self._port_of(use.items[0], use, port, where)
        values = self._nesting.all(functools.partial(self._port_of, item, use, port, where) for item in use.items)
        found = self._as_list(values, use.name, where)
        return Unknown(found, use.waits) if use.waits else found

    def output(self, scope: Scope, port: str | None, where: Location | None) -> Any:
        """What an output of a sub-workflow stands for."""
        outputs = scope.source.document.outputs
        name = next(iter(outputs)) if port is None and len(outputs) == 1 else port
        if name in outputs:
            if name in scope.outputs:
                return scope.outputs[name]
            find = functools.partial(self._find_output, scope, outputs[name])
            return self._nesting.call(
                ("output", f"{scope.owner}.{name}"), find, functools.partial(self._endless, scope, outputs[name])
            )
        if name not in scope.source.document.unread:
            listed = f"Its outputs are {', '.join(outputs)}." if outputs else "It has no outputs."
            if name is None:
                message = (
                    f"{scope.source.name} has {'several' if outputs else 'no'} outputs, and '${scope.owner}' does not say which"
                )
                hint = f"Write {' or '.join(f'${scope.owner}.{known}' for known in outputs)}." if outputs else "Add 'outputs:'."
            else:
                message = f"{scope.source.name} has no output '{name}' (node '{scope.owner}')"
                hint = did_you_mean(name, outputs) or listed
            self._problems.append(Problem("E107", message, where, hint))
        return self.broken(f"{scope.owner}.{name}")

    def _find_output(self, scope: Scope, output: OutputDef) -> Any:
        found = scope.outputs[output.name] = self.translated(scope, output.link, output.where)
        return found

    def _endless(self, scope: Scope, output: OutputDef) -> Link:
        """Stands for an output that depends on itself."""
        message = f"what output '{output.name}' of {scope.source.name} stands for depends on itself"
        self._problems.append(Problem("E109", message, output.where, "Remove one of the links."))
        return self.broken(f"{scope.owner}.{output.name}")

    def broken(self, name: str) -> Link:
        """Stands for a value that cannot be found, which has been reported."""
        self._flat.unread.add(name)
        return Link(name)

    def _port_of(self, item: Item, use: Use, port: str | None, where: Location | None) -> Any:
        if isinstance(item, PlainItem):
            return Link(item.name, port)
        if not isinstance(item, SwitchItem):
            return self.output(item.scopes[-1], port, where)
        if port not in (None, SINGLE_OUTPUT):
            message = f"a Switch has one output, which is called '{SINGLE_OUTPUT}', and no '{port}' (node '{use.name}')"
            self._problems.append(Problem("E107", message, where, f"Write '${use.name}'."))
        return item.value

    def _as_list(self, values: list[Any], owner: str, where: Location | None) -> Any:
        """The values, unless they are lists inside too many lists."""
        depth = max((self._depths.get(id(_inside(value)), (None, 0))[1] for value in values), default=0)
        if depth >= _DEEPEST_LISTS:
            message = f"here are lists inside more than {_DEEPEST_LISTS} other lists (node '{shortened(owner)}')"
            self._problems.append(Problem("E119", message, where, "Use 'each' inside fewer others."))
            return self.broken(owner)
        self._depths[id(values)] = values, depth + 1
        return values

    def _link(self, scope: Scope, link: Link, where: Location | None) -> Any:
        if link.node not in scope.source.composed:
            return Link(scope.prefix + link.node, link.port) if scope.prefix else link
        use = self._use_of(scope, scope.source.document.nodes[link.node])
        return self.broken(scope.prefix + link.node) if use is None else self.port(use, link.port, where)

    def _received(self, scope: Scope, definition: ParamDef) -> InputValue | None:
        """What a param receives: from outside, where the workflow is used, or its default."""
        name, home = definition.name, scope.source.base
        before = evaluated(scope.received.get(name))
        default = InputValue(value=definition.default, base=home, home=home, where=definition.where)
        try:
            whole = self.known(before if before is not None else default)
            found = self._overrides.value(scope.owner, name, whole.value, home)
        except ValueError as error:
            self._problems.append(Problem("E110", f"--set {scope.owner}.{name}: {error}"))
            return None
        if found is not None or before is not None:
            return found or before
        if definition.default is not MISSING:
            return default
        if scope.definition is not None and scope.is_first:
            type_text = f" ({definition.type})" if definition.type else ""
            message = f"node '{scope.owner}' ({scope.source.name}) has no value for '{name}'{type_text}"
            self._problems.append(Problem("E105", message, scope.definition.where, f"Add '{name}: ...'."))
        return None

    def _circle(self, scope: Scope, definition: ParamDef, name: str) -> None:
        where = scope.definition.where if scope.definition is not None else None
        self._problems.append(Problem("E109", f"the value of '{name}' depends on itself", where, "Remove one of the links."))


def is_linked(value: Any) -> bool:
    """Whether a value is, or holds, what a node computes, so that it is only known in a run."""
    while isinstance(value, Wrapped):
        if isinstance(value, Chosen | Unknown):
            return True
        value = value.value
    return isinstance(value, Link) or (isinstance(value, list | dict) and any(isinstance(r, Link) for r in references(value)))


def _without_limits(value: InputValue) -> InputValue:
    return replace(value, value=value.value.value) if isinstance(value.value, Limited) else value


def _inside(value: Any) -> Any:
    while isinstance(value, Wrapped):
        value = value.value
    return value


def waits_of(value: Any) -> tuple[Awaited, ...]:
    """What decides what a value is, if that is not known."""
    found: dict[Awaited, None] = {}
    pending = [value]
    while pending:
        inner = pending.pop()
        if isinstance(inner, Unknown):
            found |= dict.fromkeys(inner.waits)  # and what is inside is only an example
        elif isinstance(inner, Wrapped):
            pending.append(inner.value)
        elif isinstance(inner, list | dict):
            pending.extend(inner.values() if isinstance(inner, dict) else inner)
    return (*found,)


def as_case(found: InputValue) -> str | None:
    """A value as the name of a case; None if it is not one."""
    value = found.value
    if isinstance(value, str):
        return value
    return as_yaml(value) if isinstance(value, bool | int | float) else None


def evaluated(received: Given | None) -> InputValue | None:
    """A value that may still have to be found."""
    return received() if callable(received) else received
