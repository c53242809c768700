"""The inputs of nodes, resolved: links with a known port, lists with links in them, and literals that fit their port."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import Location, Problem
from nodegraph.graph.expansion.flat import Chosen, Limited, Unknown
from nodegraph.graph.expansion.names import UNKNOWN
from nodegraph.graph.expansion.values import waits_of
from nodegraph.graph.graph import Awaited, Input, Limit, ListWithLinks, ResolvedLink, Value
from nodegraph.graph.overrides import InputValue, from_text
from nodegraph.graph.params import InputValues
from nodegraph.graph.read_files import read_files
from nodegraph.node_types import literals
from nodegraph.node_types.item_ports import list_port
from nodegraph.node_types.literals import LiteralError
from nodegraph.node_types.port_types import accepts, element_type, type_name
from nodegraph.node_types.spec import NodeSpec, Port, Reads
from nodegraph.plugins.manager import Plugins
from nodegraph.plugins.registry import Entry
from nodegraph.text import described, did_you_mean
from nodegraph.workflow.definitions import (
    EACH,
    PARAMS,
    Document,
    Link,
    NodeDef,
    ParamRef,
    Wrapped,
    has_wrapped,
    references,
    unwrapped,
)

_WRITTEN: Final = frozenset({type(None), bool, int, float, str, list, dict, tuple})
"""The types of values that a person writes down."""

_SCALARS: Final = frozenset({type(None), bool, int, float, str})
_OF_REFERENCES: Final = ("E106", "E107")
_SUGGESTIONS: Final = 100  # problems with suggestions: each looks through all names of a file


class Inputs:
    """Resolves what the workflow gives to nodes into what their ports receive. Mistakes are added to `problems`.

    `resolved` holds the values that differ from those in the workflow file: overrides, and seeds that were drawn. `undecided` holds
    the nodes that receive a value that is not known before a run, with what they wait for, and `limits` ranges
    that linked values have to be in besides those of ports.
    """

    def __init__(
        self,
        workflow: Document,
        plugins: Plugins,
        types: Mapping[str, Entry[NodeSpec]],
        input_values: InputValues,
        problems: list[Problem],
        files: dict[tuple[str, str], Value],
    ) -> None:
        self.workflow, self.plugins, self.types = workflow, plugins, types
        self._base, self._bases = input_values.base, input_values.bases
        self.input_values, self.problems, self._files = input_values, problems, files
        self.resolved: dict[tuple[str, str], Any] = {}
        self.undecided: dict[str, tuple[Awaited, ...]] = {}
        self.limits: dict[str, tuple[tuple[str, Limit], ...]] = {}
        self._others: list[tuple[Any, InputValue]] = []  # values that were not chosen, with the types that they have to fit
        self._seen = set[int]()  # the ids of what they belong to
        self._checks_others = False

    def resolve(self, node: NodeDef, port: Port) -> Input | None:
        """What `port` of `node` receives; None if there is a problem."""
        base = self.base_of(node)
        raw = self.input_values.inputs.get((node.name, port.name))
        if raw is not None:
            return self._from_outside(node, port, raw)
        if port.name in node.inputs:
            raw = InputValue(value=node.inputs[port.name], base=base, home=base, where=node.location(port.name))
            return self._whole(node, port, raw)
        if not port.required:
            return self._whole(node, port, InputValue(value=port.default, base=base, home=base, where=node.where))
        message = f"node '{node.name}' ({node.type}) has no value for '{port.name}' ({type_name(port.type)})"
        self._problem("E105", message, node.where, f"Add '{port.name}: ...'." + self._made_by(port))
        return None

    def base_of(self, node: NodeDef) -> Path:
        """The folder that relative paths in a node start from."""
        return self._bases.get(node.name, self._base)

    def input_value(self, node: NodeDef, input: str) -> InputValue:
        """The value of `input` of `node`, and where it was given: outside the workflow, by a param, or in its file."""
        outside = self.input_values.inputs.get((node.name, input))
        value = outside.value if outside is not None else node.inputs.get(input)
        if isinstance(value, ParamRef) and value.name in self.input_values.params:
            return self.input_values.params[value.name]
        if isinstance(value, InputValue):
            return value
        base = self.base_of(node)
        return outside or InputValue(value=value, base=base, home=base, where=node.location(input))

    def link(self, link: Link, where: Location | None, user: str) -> tuple[ResolvedLink, Port] | None:
        """The output that `link` leads to, and its port. `user` says in messages whose link it is."""
        if link.node not in self.workflow.nodes:
            if link.node in self.workflow.unread:
                return None
            hint = self._near(link.node, self.workflow.nodes)
            if link.node == PARAMS:
                hint = "Name the param: '$params.NAME'."
            self._problem("E106", f"there is no node '{link.node}' ({user})", where, hint)
            return None
        entry = self.types.get(link.node)
        if entry is None:
            return None  # the unknown type has been reported
        output = entry.value.output(link.port)
        if output is not None:
            return ResolvedLink(link.node, output.name), output
        if UNKNOWN in (link.port or "") and entry.value.output(list_port(link.port or "") or None) is not None:
            return None  # it is reported where a list is expected
        ports = [port.name for port in entry.value.outputs]
        if link.port is None:
            message = f"{entry.name} has several outputs, and '{link}' does not say which ({user})"
            self._problem("E107", message, where, f"Write {_either(link, ports)}.")
        else:
            hint = did_you_mean(link.port, ports) or f"Its outputs are {', '.join(ports)}."
            self._problem("E107", f"{entry.name} has no output '{link.port}' ({user})", where, hint)
        return None

    def check(self, node: NodeDef, port: Port, value: Any) -> None:
        """Report whether `port` could receive a value."""
        self._whole(node, port, InputValue(value=value, base=self._base, home=self._base, where=node.where))

    def check_linked(self, node: NodeDef, port: Port, value: Any) -> None:
        """Report whether `port` could receive a value, but not whether its references exist, which is checked elsewhere."""
        before = len(self.problems)
        self.check(node, port, value)
        self.problems[before:] = [problem for problem in self.problems[before:] if problem.code not in _OF_REFERENCES]

    # --- one value

    def _from_outside(self, node: NodeDef, port: Port, raw: InputValue) -> Input | None:
        """Resolve an input that is given from outside, which replaces the file's value in the resolved workflow."""
        try:
            value = from_text(port, raw.value) if raw.text else raw.value
        except LiteralError as error:
            self.problems.append(raw.does_not_fit(_name(node, port, raw), error))
            return None
        raw = replace(raw, value=value, text=False)
        self.resolved[node.name, port.name] = raw.in_workflow(path=port.reads is not None)
        return self._whole(node, port, raw)

    def _whole(self, node: NodeDef, port: Port, raw: InputValue) -> Input | None:
        """Resolve the whole value for a port."""
        found = self._resolve(node, port, port.type, raw)
        if self._others:
            self._check_others(node, port)
        return found

    def _resolve(self, node: NodeDef, port: Port, kind: Any, raw: InputValue) -> Input | None:
        """Resolve one value for a port, or a part of it that has type `kind`: a link, a list with links in it, or a literal."""
        while type(raw.value) not in _SCALARS:  # most values are
            if isinstance(raw.value, ParamRef):
                if not self._is_known(node, port, raw.value, raw):
                    return None
                raw = self.input_values.params[raw.value.name]
            elif isinstance(raw.value, Wrapped):
                if isinstance(raw.value, Chosen) and not self._is_new(raw.value, kind, raw):
                    return None
                raw = self._unwrapped(node, port, raw.value, raw)
            else:
                return self._resolve_plain(node, port, kind, raw)
        return self._checked_literal(node, port, kind, raw)

    def _resolve_plain(self, node: NodeDef, port: Port, kind: Any, raw: InputValue) -> Input | None:
        """Resolve a value that is not wrapped, and no reference to a param."""
        value = raw.value
        if isinstance(value, Link):
            return self._linked(node, port, kind, raw)
        inside = list(references(value))
        if any(isinstance(ref, Link) for ref in inside) or self._holds_objects(kind, value):
            return self._list_with_links(node, port, kind, raw)
        if has_wrapped(value):
            self._note_unknown(node, value)
            return self._resolve(node, port, kind, replace(raw, value=unwrapped(value)))
        if inside:
            known = [self._is_known(node, port, ref, raw) for ref in inside if isinstance(ref, ParamRef)]
            if not all(known):
                return None
            raw = replace(raw, value=self._filled(value))
        return self._checked_literal(node, port, kind, raw)

    def _checked_literal(self, node: NodeDef, port: Port, kind: Any, raw: InputValue) -> Value | None:
        """A literal that fits; otherwise the problem is reported."""
        try:
            return self._literal(node, port, kind, raw)
        except LiteralError as error:
            if isinstance(raw.value, list) and element_type(port.type) is None and EACH not in error.hint:
                error.hint = f"{error.hint} To map the node over a list, write 'each: {{{port.name}: [...]}}'.".strip()
            self.problems.append(raw.does_not_fit(_name(node, port, raw), error))
            return None

    def _is_new(self, chosen: Chosen, kind: Any, raw: InputValue) -> bool:
        """Note the values that were not chosen, to be checked later; whether to go on with the one that was."""
        if id(chosen) in self._seen:
            return not self._checks_others
        self._seen.add(id(chosen))
        self._others += [(kind, replace(raw, value=other)) for other in chosen.others]
        return True

    def _unwrapped(self, node: NodeDef, port: Port, value: Wrapped, raw: InputValue) -> InputValue:
        """What is wrapped: a value that brings its location with it, or that is not known, has to be in a range, or was chosen."""
        if isinstance(value, InputValue):
            return value
        if isinstance(value, Unknown):
            self._note_unknown(node, value)
        if isinstance(value, Limited) and not self._checks_others:
            self.limits[node.name] = (*self.limits.get(node.name, ()), *((port.name, limit) for limit in value.limits()))
        return replace(raw, value=value.value)

    def _note_unknown(self, node: NodeDef, value: Any) -> None:
        waits = () if self._checks_others else waits_of(value)
        if waits:
            self.undecided[node.name] = (*dict.fromkeys((*self.undecided.get(node.name, ()), *waits)),)

    def _check_others(self, node: NodeDef, port: Port) -> None:
        """Report which values that were not chosen a port could not receive. What they refer to is checked elsewhere."""
        before, drawn = len(self.problems), dict(self.input_values.drawn_seeds)
        resolved = dict(self.resolved)
        self._checks_others = True
        for kind, raw in self._others:  # which grows: others may be those of another Switch
            self._resolve(node, port, kind, raw)
        self._checks_others = False
        self._others, self._seen = [], set()
        self.problems[before:] = [problem for problem in self.problems[before:] if problem.code not in _OF_REFERENCES]
        self.resolved = resolved
        self.input_values.drawn_seeds.clear()
        self.input_values.drawn_seeds.update(drawn)

    def _holds_objects(self, kind: Any, value: Any) -> bool:
        """Whether `value` is a list of objects made in Python, of a stored type or for a codec to convert."""
        if not isinstance(value, list) or all(type(item) in _WRITTEN for item in value):
            return False
        codec = self.plugins.codecs.for_type(element_type(kind))
        return codec is not None and codec is not self.plugins.codecs.json

    def _is_known(self, node: NodeDef, port: Port, ref: ParamRef, raw: InputValue) -> bool:
        if ref.name not in self.input_values.params and ref.name not in self.workflow.unread:
            hint = self._near(ref.name, self.input_values.params) or "Add it under 'params:'."
            self._problem("E106", f"there is no param '{ref.name}' ({_name(node, port, raw)})", raw.where, hint)
        return ref.name in self.input_values.params and ref.name not in self.input_values.bad_params

    def _filled(self, value: Any) -> Any:
        """A list or mapping with the values of params instead of references to them."""
        if isinstance(value, ParamRef):
            return self.input_values.params[value.name].value
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if isinstance(value, dict):
            return {key: self._filled(item) for key, item in value.items()}
        return value

    def _linked(self, node: NodeDef, port: Port, kind: Any, raw: InputValue) -> ResolvedLink | None:
        link: Link = raw.value
        found = self.link(link, raw.where, f"{_name(node, port, raw)}: {link}")
        if found is None:
            return None
        resolved, output = found
        stored = self.plugins.codecs.for_type(output.type)
        is_value = accepts(kind, output.type) and stored is not None and stored is not self.plugins.codecs.json
        if port.choice is not None or (port.reads is not None and not is_value):  # the content of such a value is in the key
            message = f"{_name(node, port, raw)} cannot be linked: its value must be known before the run starts"
            self._problem("E108", message, raw.where, "Use a value or a param.")
            return None
        if not accepts(kind, output.type):
            message = f"{_name(node, port, raw)} ({node.type}) takes {type_name(kind)}, but {link} is {type_name(output.type)}"
            self._problem("E108", message, raw.where, self._fitting_port(link, kind) or _each_hint(port, kind, output.type))
            return None
        return resolved

    def _list_with_links(self, node: NodeDef, port: Port, kind: Any, raw: InputValue) -> ListWithLinks | None:
        """Resolve a list that has links in it."""
        if not isinstance(raw.value, list):
            link = next(ref for ref in references(raw.value) if isinstance(ref, Link))
            message = f"{_name(node, port, raw)} has the link {link} inside a mapping, where links are not supported"
            self._problem("E108", message, raw.where, "Use values or params there.")
            return None
        inner = element_type(kind)
        if inner is None:
            hint = f"To map the node over a list, write 'each: {{{port.name}: ...}}'."
            self._problem("E110", f"{_name(node, port, raw)}: expected {type_name(kind)}, found a list", raw.where, hint)
            return None
        resolved = [self._resolve(node, port, inner, replace(raw, value=item)) for item in raw.value]
        items = tuple(item for item in resolved if item is not None)
        return ListWithLinks(items) if len(items) == len(resolved) else None

    def _literal(self, node: NodeDef, port: Port, kind: Any, raw: InputValue) -> Value:
        value = self.input_values.seed(f"{node.name}.{port.name}", raw.value) if port.seed else raw.value
        if value is not raw.value:
            self.resolved[node.name, port.name] = value
        if port.choice is not None and value is not None:
            return self._choice(port.choice.registry, value)
        if port.reads is not None and value is not None:
            return self._read(node, port, port.reads, raw)
        if port.seed and isinstance(value, str):
            raise LiteralError(f"expected a whole number or 'random', found {described(value)}")
        if type(value) not in _WRITTEN and (made := self._made_in_python(kind, value)) is not None:
            return made
        try:
            value = literals.coerce(kind, value)
        except LiteralError as error:
            error.hint = self._hint_in_python(kind) if raw.in_python and not literals.is_plain(port) else error.hint
            raise
        literals.check_range(port, value)
        if isinstance(value, set | frozenset | tuple):  # lists and mappings were copied when they were converted
            value = copy.deepcopy(value)
        return Value(value)

    def _read(self, node: NodeDef, port: Port, reads: Reads, raw: InputValue) -> Value:
        """The files that an input names. If the graph is built again during a run, they are those that were read before."""
        place = node.name, port.name
        known = self._files.get(place)
        if known is None or known.not_fetched is not None or UNKNOWN in node.name:
            known = self._files[place] = read_files(reads, raw, self.plugins.known_state, self.input_values.recorded)
        return known

    def _made_in_python(self, kind: Any, value: Any) -> Value | None:
        """A value of a stored type, or an object that a codec can make one from; None for any other value."""
        codecs = self.plugins.codecs
        codec = codecs.for_type(type(value))
        if codec is None or codec is codecs.json or not accepts(kind, type(value)):
            try:
                value = codecs.convert(kind, value)
            except ValueError as error:
                raise LiteralError(str(error)) from error
            codec = None if value is None else codecs.for_type(type(value))
        return None if codec is None else Value(value, digest=codecs.digest(codec, value))

    def _hint_in_python(self, kind: Any) -> str:
        """What a port that takes no literals accepts in Python."""
        codec = self.plugins.codecs.for_type(kind)
        others = ", or an array or another object that it can be made from" if hasattr(codec, "convert") else ""
        value = f", or an object of type {type_name(kind)}{others}" if codec is not None else ""
        return f"Give the output of a node, such as node.output{value}."

    def _choice(self, kind: str, name: Any) -> Value:
        registry = self.plugins.registries.get(kind)
        if registry is None:
            raise LiteralError(f"no plugin offers {kind}", "'nodegraph plugins' lists the plugins.", "E112")
        name = literals.coerce(str, name)
        if name not in registry:
            hint = self.plugins.suggest(kind, name) + self.plugins.why_broken()
            raise LiteralError(registry.unknown(name), hint, "E112")
        entry: Entry[Any] = registry.get(name)
        return Value(entry.value, entry=entry)

    # --- messages

    def _fitting_port(self, link: Link, kind: Any) -> str:
        ports = [port.name for port in self.types[link.node].value.outputs if accepts(kind, port.type)]
        return f"Did you mean {_either(Link(link.node), ports)}?" if ports else ""

    def _made_by(self, port: Port) -> str:
        if literals.is_plain(port):
            return ""
        makers = [
            entry.name
            for entry in self.plugins.nodes.entries()
            if any(output.type is not Any and accepts(port.type, output.type) for output in entry.value.outputs)
        ]
        return f" It comes from {' or '.join(makers[:4])}." if makers else ""

    def _near(self, name: str, known: Iterable[str]) -> str:
        """A suggestion for a misspelt name, for the first problems only."""
        return did_you_mean(name, known) if len(self.problems) < _SUGGESTIONS else ""

    def _problem(self, code: str, message: str, where: Location | None, hint: str = "") -> None:
        self.problems.append(Problem(code, message, where, hint))


def _name(node: NodeDef, port: Port, raw: InputValue) -> str:
    """An input in messages, with its place if the value was written in another file."""
    is_other_file = raw.where is not None and node.where is not None and raw.where.file != node.where.file
    return f"'{port.name}' of node '{node.name}'" + (f" in {node.where}" if is_other_file else "")


def _each_hint(port: Port, kind: Any, offered: Any) -> str:
    """A hint for a list that a node returns, at a port that takes one of its items."""
    item = element_type(offered)
    if item is None or element_type(kind) is not None or not accepts(kind, item):
        return ""
    return f"To map the node over the list, write 'each: {{{port.name}: ...}}'."


def _either(link: Link, ports: list[str]) -> str:
    return " or ".join(f"'{Link(link.node, port)}'" for port in ports)
