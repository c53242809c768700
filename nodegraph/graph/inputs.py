"""What the inputs of nodes come to: links with a known port, lists with links in them, and literals that fit."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from nodegraph.errors import Location, Problem
from nodegraph.graph.graph import Input, Many, Value, Wire
from nodegraph.graph.overrides import Given, Givens
from nodegraph.node_types import literals
from nodegraph.node_types.literals import LiteralError, type_name
from nodegraph.node_types.spec import NodeSpec, Port, Reads
from nodegraph.plugins.manager import Plugins
from nodegraph.plugins.registry import Entry
from nodegraph.text import did_you_mean
from nodegraph.workflow.workflow import PARAMS, Link, NodeDef, ParamRef, Workflow, references

_SUGGESTIONS: Final = 100


class Inputs:
    """Makes of what nodes are given what their ports receive. What cannot be is added to `problems`.

    `resolved` holds what a workflow file would have to say in place of what it says: values from outside it, and seeds drawn.
    """

    def __init__(
        self,
        workflow: Workflow,
        plugins: Plugins,
        types: Mapping[str, Entry[NodeSpec]],
        givens: Givens,
        problems: list[Problem],
    ) -> None:
        self.workflow, self.plugins, self.types, self.givens, self.problems = workflow, plugins, types, givens, problems
        self.resolved: dict[tuple[str, str], Any] = {}

    def of(self, node: NodeDef, port: Port) -> Input | None:
        """What `port` of `node` receives; None where there is a problem."""
        place, base = node.place(port.name), self.workflow.base
        given = self.givens.inputs.get((node.name, port.name))
        if given is not None:
            return self._from_outside(node, port, given)
        if port.name in node.inputs:
            return self._bind(node, port, port.type, Given(node.inputs[port.name], base, base, place))
        if not port.required:
            return self._bind(node, port, port.type, Given(port.default, base, base, node.where))
        message = f"{node.type} needs '{port.name}' ({type_name(port.type)}), which node '{node.name}' does not give it"
        self._problem("E105", message, node.where, f"Add '{port.name}: ...'." + self._who_makes(port))
        return None

    def given(self, node: NodeDef, input: str) -> Given:
        """What `input` of `node` is given, and where: outside the workflow, as a param, or in its file."""
        outside = self.givens.inputs.get((node.name, input))
        value = outside.value if outside is not None else node.inputs.get(input)
        if isinstance(value, ParamRef) and value.name in self.givens.params:
            return self.givens.params[value.name]
        return outside or Given(value, self.workflow.base, self.workflow.base, node.place(input))

    def wire(self, link: Link, where: Location | None, user: str) -> tuple[Wire, Port] | None:
        """Where `link` leads, and the output there. `user` says whose link it is."""
        if link.node not in self.workflow.nodes:
            hint = self._near(link.node, self.workflow.nodes)
            if link.node == PARAMS:
                hint = "Name the param: '$params.NAME'."
            self._problem("E106", f"there is no node '{link.node}' ({user})", where, hint)
            return None
        entry = self.types.get(link.node)
        if entry is None:
            return None  # an unknown type has been said already
        output = entry.value.output(link.port)
        if output is not None:
            return Wire(link.node, output.name), output
        ports = [port.name for port in entry.value.outputs]
        if link.port is None:
            message = f"{entry.name} has several outputs, and '{link}' names none ({user})"
            self._problem("E107", message, where, f"Say which: {_either(link, ports)}.")
        else:
            hint = did_you_mean(link.port, ports) or f"It has {', '.join(ports)}."
            self._problem("E107", f"{entry.name} has no output '{link.port}' ({user})", where, hint)
        return None

    # --- one value

    def _from_outside(self, node: NodeDef, port: Port, given: Given) -> Input | None:
        """An input that is given from outside: it stands in the resolved workflow in place of what the file says."""
        try:
            value = literals.from_text(port, given.value) if given.text else given.value
        except LiteralError as error:
            self.problems.append(given.unfit(_name(node, port), error))
            return None
        given = replace(given, value=value, text=False)
        self.resolved[node.name, port.name] = given.told(path=port.reads is not None)
        return self._bind(node, port, port.type, given)

    def _bind(self, node: NodeDef, port: Port, kind: Any, given: Given) -> Input | None:
        """One given value as the port's: a link, a list with links in it, or a literal."""
        value = given.value
        if isinstance(value, ParamRef):
            if not self._is_known(node, port, value, given):
                return None
            return self._bind(node, port, kind, self.givens.params[value.name])
        if isinstance(value, Link):
            return self._wire(node, port, kind, value, given)
        inside = list(references(value))
        link = next((ref for ref in inside if isinstance(ref, Link)), None)
        if link is not None:
            return self._many(node, port, kind, link, given)
        if inside:
            known = [self._is_known(node, port, ref, given) for ref in inside if isinstance(ref, ParamRef)]
            if not all(known):
                return None
            given = replace(given, value=self._filled(value))
        try:
            return self._literal(node, port, kind, given)
        except LiteralError as error:
            self.problems.append(given.unfit(_name(node, port), error))
            return None

    def _is_known(self, node: NodeDef, port: Port, ref: ParamRef, given: Given) -> bool:
        if ref.name not in self.givens.params:
            hint = self._near(ref.name, self.givens.params) or "Add it under 'params:'."
            self._problem("E106", f"there is no param '{ref.name}' ({_name(node, port)})", given.where, hint)
        return ref.name in self.givens.params and ref.name not in self.givens.bad

    def _filled(self, value: Any) -> Any:
        """A list or mapping with the params' values in place of the references to them."""
        if isinstance(value, ParamRef):
            return self.givens.params[value.name].value
        if isinstance(value, list):
            return [self._filled(item) for item in value]
        if isinstance(value, dict):
            return {key: self._filled(item) for key, item in value.items()}
        return value

    def _wire(self, node: NodeDef, port: Port, kind: Any, link: Link, given: Given) -> Wire | None:
        found = self.wire(link, given.where, f"{_name(node, port)}: {link}")
        if found is None:
            return None
        wire, output = found
        if port.choice is not None or port.reads is not None:
            message = f"{_name(node, port)} cannot be linked: what it names has to be known before anything runs"
            self._problem("E108", message, given.where, "Give it a value or a param.")
            return None
        if not literals.accepts(kind, output.type):
            message = f"{_name(node, port)} ({node.type}) takes {type_name(kind)}, and {link} gives {type_name(output.type)}"
            self._problem("E108", message, given.where, self._fitting_port(link, kind))
            return None
        return wire

    def _many(self, node: NodeDef, port: Port, kind: Any, link: Link, given: Given) -> Many | None:
        """A list with links in it."""
        if not isinstance(given.value, list):
            message = f"{_name(node, port)} holds {link} in a mapping, where links cannot be"
            self._problem("E108", message, given.where, "Give it values or params.")
            return None
        inner = literals.element_type(kind)
        if inner is None:
            self._problem("E110", f"{_name(node, port)}: expected {type_name(kind)}, found a list", given.where)
            return None
        bound = [self._bind(node, port, inner, replace(given, value=item)) for item in given.value]
        items = tuple(item for item in bound if item is not None)
        return Many(items) if len(items) == len(bound) else None

    def _literal(self, node: NodeDef, port: Port, kind: Any, given: Given) -> Value:
        value = self.givens.seed(f"{node.name}.{port.name}", given.value) if port.seed else given.value
        if value is not given.value:
            self.resolved[node.name, port.name] = value
        if port.choice is not None and value is not None:
            return self._choice(port.choice.registry, value)
        if port.reads is not None and value is not None:
            return _file(port.reads, given)
        if port.seed and isinstance(value, str):
            raise LiteralError(f"expected a whole number or 'random', found {value!r}")
        codec = self.plugins.codecs.for_type(type(value))
        if codec is not None and codec.name != "json" and literals.accepts(kind, type(value)):
            return Value(value, digest=codec.digest(value))  # a value made in Python
        value = literals.coerce(kind, value)
        literals.check_range(port, value)
        return Value(value)

    def _choice(self, kind: str, name: Any) -> Value:
        registry = self.plugins.registries.get(kind)
        if registry is None:
            raise LiteralError(f"no plugin offers {kind}", "'nodegraph plugins' lists what is there.", "E112")
        name = literals.coerce(str, name)
        if name not in registry:
            hint = registry.suggest(name) + self.plugins.why_broken()
            raise LiteralError(f"there is no '{name}' among the {kind}", hint, "E112")
        entry: Entry[Any] = registry.get(name)
        return Value(entry.value, entry=entry)

    # --- words

    def _fitting_port(self, link: Link, kind: Any) -> str:
        ports = [port.name for port in self.types[link.node].value.outputs if literals.accepts(kind, port.type)]
        return f"Did you mean {_either(Link(link.node), ports)}?" if ports else ""

    def _who_makes(self, port: Port) -> str:
        if literals.is_plain(port):
            return ""
        makers = [
            entry.name
            for entry in self.plugins.nodes.entries()
            if any(output.type is not Any and literals.accepts(port.type, output.type) for output in entry.value.outputs)
        ]
        return f" It comes from {' or '.join(makers[:4])}." if makers else ""

    def _near(self, name: str, known: Iterable[str]) -> str:
        """What may have been meant; looked for in the first problems only, as each looks through a whole file's names."""
        return did_you_mean(name, known) if len(self.problems) < _SUGGESTIONS else ""

    def _problem(self, code: str, message: str, where: Location | None, hint: str = "") -> None:
        self.problems.append(Problem(code, message, where, hint))


def _file(reads: Reads, given: Given) -> Value:
    text = literals.coerce(str, os.fspath(given.value) if isinstance(given.value, os.PathLike) else given.value)
    try:
        resource = reads.resolve(text, given.base)
    except (OSError, ValueError) as error:
        said = f"{error.strerror}: {error.filename}" if isinstance(error, OSError) and error.errno else str(error)
        raise LiteralError(said.rstrip("."), "Check the path." if isinstance(error, FileNotFoundError) else "", "E113") from error
    return Value(resource.value, files=resource.files)


def _name(node: NodeDef, port: Port) -> str:
    return f"'{port.name}' of node '{node.name}'"


def _either(link: Link, ports: list[str]) -> str:
    return " or ".join(f"'{Link(link.node, port)}'" for port in ports)
