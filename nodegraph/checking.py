"""From a workflow to a checked graph, or to every problem in it at once. Reads no weights and runs no node."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import networkx as nx

from nodegraph import literals
from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.givens import Given, Givens, Override, drawn
from nodegraph.graph import Graph, GraphNode, Input, Many, Output, Value, Wire
from nodegraph.literals import Unfit, type_name
from nodegraph.plugins import Plugins
from nodegraph.registry import Entry, did_you_mean
from nodegraph.spec import NodeSpec, Port
from nodegraph.workflow import Link, NodeDef, ParamRef, Workflow


def build_graph(workflow: Workflow, plugins: Plugins, overrides: Sequence[Override] = (), targets: Sequence[str] = ()) -> Graph:
    """Check `workflow` and give its graph. `targets` ("node", "node.port", or an output's name) replace its outputs.

    Raises WorkflowError with every problem that was found.
    """
    return _Builder(workflow, plugins).build(overrides, targets)


class _Builder:
    def __init__(self, workflow: Workflow, plugins: Plugins) -> None:
        self.workflow, self.plugins = workflow, plugins
        self.problems: list[Problem] = []
        self.specs = {node.name: plugins.nodes.get(node.type) for node in workflow.nodes.values() if node.type in plugins.nodes}
        self.given = Givens(workflow, self.specs, self.problems)
        self.resolved_inputs: dict[tuple[str, str], Any] = {}

    def build(self, overrides: Sequence[Override], targets: Sequence[str]) -> Graph:
        self.given.take(overrides)
        nodes = [built for node in self.workflow.nodes.values() if (built := self._node(node))]
        outputs = self._targets(targets) if targets else self._outputs()
        order = self._order(nodes)
        if self.problems:
            raise WorkflowError(dict.fromkeys(self.problems))
        params = {name: given.told() for name, given in self.given.params.items()}
        by_name = {node.name: node for node in nodes}
        return Graph(self.workflow.name, {n: by_name[n] for n in order}, outputs, params, self._resolved(params))

    # --- nodes

    def _node(self, node: NodeDef) -> GraphNode | None:
        entry = self.specs.get(node.name)
        if entry is None:
            self._problem(
                "E103",
                f"there is no node type '{node.type}' (node '{node.name}')",
                node.place("use"),
                self.plugins.nodes.suggest(node.type) + self._broken(),
            )
            return None
        spec = entry.value
        for input in node.inputs:
            if spec.input(input) is None:
                message = f"{node.type} has no input '{input}' (node '{node.name}')"
                self._problem("E104", message, node.place(input, key=True), _suggest_input(input, spec))
        inputs: dict[str, Input] = {}
        for port in spec.inputs:
            built = self._input(node, port)
            if built is not None:
                inputs[port.name] = built
        if spec.check is not None and len(inputs) == len(spec.inputs):
            for said in spec.check(**{name: given.value for name, given in inputs.items() if isinstance(given, Value)}):
                self._problem("E116", f"{said} (node '{node.name}')", node.where)
        return GraphNode(node.name, spec, entry.origin, inputs, node.where)

    def _input(self, node: NodeDef, port: Port) -> Input | None:
        place, base = node.place(port.name), self.workflow.base
        given = self.given.inputs.get((node.name, port.name))
        if given is not None:
            return self._overridden(node, port, given)
        if port.name in node.inputs:
            return self._bind(node, port, port.type, Given(node.inputs[port.name], base, base, place))
        if not port.required:
            return self._bind(node, port, port.type, Given(port.default, base, base, node.where))
        message = f"{node.type} needs '{port.name}' ({type_name(port.type)}); node '{node.name}' does not give it"
        self._problem("E105", message, node.where, f"Add '{port.name}: ...'." + self._who_makes(port))
        return None

    def _overridden(self, node: NodeDef, port: Port, given: Given) -> Input | None:
        """An input that is given from outside: it stands in the resolved workflow in place of what the file says."""
        try:
            value = literals.from_text(port, given.value) if given.text else given.value
        except Unfit as error:
            self.problems.append(given.unfit(f"'{port.name}' of node '{node.name}'", error))
            return None
        given = replace(given, value=value, text=False)
        self.resolved_inputs[node.name, port.name] = given.told()
        return self._bind(node, port, port.type, given)

    def _bind(self, node: NodeDef, port: Port, kind: Any, given: Given) -> Input | None:
        """One given value as the port's: a link, a list with links in it, or a literal."""
        value = given.value
        if isinstance(value, ParamRef):
            return self._param_value(node, port, kind, value, given)
        if isinstance(value, Link):
            return self._wire(node, port, kind, value, given)
        if isinstance(value, list) and any(_refers(item) for item in value):
            inner = literals.element_type(kind)
            if inner is None:
                message = f"'{port.name}' of node '{node.name}' takes {type_name(port.type)}, not a list"
                self._problem("E110", message, given.where)
                return None
            items = [self._bind(node, port, inner, replace(given, value=item)) for item in value]
            return None if None in items else Many(tuple(item for item in items if item is not None))
        try:
            return self._literal(node, port, kind, given)
        except Unfit as error:
            self.problems.append(given.unfit(f"'{port.name}' of node '{node.name}'", error))
            return None

    def _param_value(self, node: NodeDef, port: Port, kind: Any, ref: ParamRef, given: Given) -> Input | None:
        param = self.given.params.get(ref.name)
        if param is None:
            hint = did_you_mean(ref.name, self.given.params) or "Add it under 'params:'."
            self._problem("E106", f"there is no param '{ref.name}' (node '{node.name}', '{port.name}')", given.where, hint)
            return None
        return None if ref.name in self.given.bad else self._bind(node, port, kind, param)

    def _wire(self, node: NodeDef, port: Port, kind: Any, link: Link, given: Given) -> Input | None:
        if link.node not in self.workflow.nodes:
            message = f"there is no node '{link.node}' (node '{node.name}', '{port.name}: {link}')"
            self._problem("E106", message, given.where, did_you_mean(link.node, self.workflow.nodes))
            return None
        wire, output = self._resolve(link, given.where, f"node '{node.name}', '{port.name}: {link}'")
        if wire is None or output is None:
            return None
        if port.choice is not None or port.reads is not None:
            message = f"'{port.name}' of node '{node.name}' cannot be linked: its value is known before anything runs"
            self._problem("E108", message, given.where, "Give it a value or a param.")
            return None
        if not literals.accepts(kind, output.type):
            message = (
                f"'{port.name}' of {node.type} (node '{node.name}') takes {type_name(kind)}; {link} gives {type_name(output.type)}"
            )
            self._problem("E108", message, given.where, self._fitting_port(link, kind))
            return None
        return wire

    def _resolve(self, link: Link, where: Location | None, user: str) -> tuple[Wire | None, Port | None]:
        entry = self.specs.get(link.node)
        if entry is None:
            return None, None  # an unknown type has been said already
        output = entry.value.output(link.port)
        if output is None:
            ports = [port.name for port in entry.value.outputs]
            if link.port is None:
                message, hint = (
                    f"{entry.name} has several outputs, {link} names none ({user})",
                    f"Say which: {_list(link, ports)}.",
                )
            else:
                message = f"{entry.name} has no output '{link.port}' ({user})"
                hint = did_you_mean(link.port, ports) or f"It has {', '.join(ports)}."
            self._problem("E107", message, where, hint)
            return None, None
        return Wire(link.node, output.name), output

    def _literal(self, node: NodeDef, port: Port, kind: Any, given: Given) -> Value:
        value = drawn(given.value) if port.seed else given.value
        if value != given.value and given.param is None:
            self.resolved_inputs[node.name, port.name] = value
        if port.choice is not None and value is not None:
            return self._choice(port.choice.registry, value)
        if port.reads is not None and value is not None:
            text = literals.coerce(str, os.fspath(value) if isinstance(value, os.PathLike) else value)
            try:
                resource = port.reads.resolve(text, given.base)
            except (OSError, ValueError) as error:
                hint = "Check the path." if isinstance(error, FileNotFoundError) else ""
                raise Unfit(str(error).rstrip("."), hint) from error
            return Value(resource.value, files=resource.files)
        codec = self.plugins.codecs.for_type(type(value))
        if codec is not None and codec.name != "json" and literals.accepts(kind, type(value)):
            return Value(value, digest=codec.digest(value))  # a value made in Python
        value = literals.coerce(kind, value)
        literals.check_range(port, value)
        return Value(value)

    def _choice(self, kind: str, name: Any) -> Value:
        registry = self.plugins.registries.get(kind)
        if registry is None:
            raise Unfit(f"no plugin offers {kind}", "'nodegraph plugins' lists what is there.")
        if not isinstance(name, str) or name not in registry:
            hint = registry.suggest(str(name)) + self._broken()
            raise Unfit(f"there is no {name!r} among the {kind}", hint)
        entry: Entry[Any] = registry.get(name)
        return Value(entry.value, entry=entry)

    # --- the whole

    def _outputs(self) -> dict[str, Output]:
        outputs = {}
        for output in self.workflow.outputs.values():
            if output.link.node not in self.workflow.nodes:
                hint = did_you_mean(output.link.node, self.workflow.nodes)
                self._problem("E106", f"there is no node '{output.link.node}' (output '{output.name}')", output.where, hint)
                continue
            wire, port = self._resolve(output.link, output.where, f"output '{output.name}'")
            if wire is None or port is None:
                continue
            if self.plugins.codecs.for_type(port.type) is None:
                message = f"output '{output.name}' is {type_name(port.type)}, which cannot be written to a file"
                self._problem("E115", message, output.where, "Name a picture, a latent, a number or a text.")
            outputs[output.name] = Output(output.name, wire, output.save, output.where)
        return outputs

    def _targets(self, targets: Iterable[str]) -> dict[str, Output]:
        outputs = {}
        for target in targets:
            name, _, port = target.partition(".")
            wanted = self.workflow.outputs.get(target)
            if wanted is None and name not in self.workflow.nodes:
                hint = did_you_mean(target, [*self.workflow.nodes, *self.workflow.outputs])
                self._problem("E120", f"target '{target}': there is no such node or output", None, hint)
                continue
            link = wanted.link if wanted and name not in self.workflow.nodes else Link(name, port or None)
            wire, _ = self._resolve(link, None, f"target '{target}'")
            if wire is not None:
                outputs[target] = Output(target, wire)
        return outputs

    def _order(self, nodes: list[GraphNode]) -> list[str]:
        dag: nx.DiGraph[str] = nx.DiGraph()
        dag.add_nodes_from(node.name for node in nodes)
        dag.add_edges_from((wire.node, node.name) for node in nodes for wire in node.wires() if wire.node in dag)
        try:
            return list(nx.lexicographical_topological_sort(dag, key={node.name: i for i, node in enumerate(nodes)}.__getitem__))
        except nx.NetworkXUnfeasible:
            self._say_cycles(dag)
            return []

    def _say_cycles(self, dag: nx.DiGraph[str]) -> None:
        for component in nx.strongly_connected_components(dag):
            start = min(component, key=list(self.workflow.nodes).index)
            if len(component) > 1 or dag.has_edge(start, start):
                edges = nx.find_cycle(dag.subgraph(component), start)
                path = " -> ".join([edges[0][0], *(edge[1] for edge in edges)])
                where = self.workflow.nodes[start].where
                self._problem("E109", f"these nodes feed each other: {path}", where, "Break the circle.")

    def _resolved(self, params: Mapping[str, Any]) -> Workflow:
        """The workflow with the params, overrides and seeds of this graph written in."""
        resolved = Workflow(self.workflow.name, self.workflow.description, base=self.workflow.base)
        resolved.params = {name: replace(param, default=params[name]) for name, param in self.workflow.params.items()}
        resolved.nodes = dict(self.workflow.nodes)
        resolved.outputs = dict(self.workflow.outputs)
        for (node, input), value in self.resolved_inputs.items():
            definition = resolved.nodes[node]
            resolved.nodes[node] = replace(definition, inputs={**definition.inputs, input: value})
        return resolved

    # --- words

    def _broken(self) -> str:
        """A plugin that could not be loaded may be the reason why a name is unknown."""
        broken = self.plugins.broken()
        return "".join(f" {plugin.error}." for plugin in broken)

    def _fitting_port(self, link: Link, kind: Any) -> str:
        ports = [port.name for port in self.specs[link.node].value.outputs if literals.accepts(kind, port.type)]
        return f"Did you mean {_list(Link(link.node), ports)}?" if ports else ""

    def _who_makes(self, port: Port) -> str:
        if literals.is_plain(port):
            return ""
        makers = [e.name for e in self.plugins.nodes.entries() if any(literals.accepts(port.type, o.type) for o in e.value.outputs)]
        return f" It comes from {' or '.join(makers[:4])}." if makers else ""

    def _problem(self, code: str, message: str, where: Location | None, hint: str = "") -> None:
        self.problems.append(Problem(code, message, where, hint))


def _suggest_input(name: str, spec: NodeSpec) -> str:
    names = [port.name for port in spec.inputs]
    return did_you_mean(name, names) or (f"It has {', '.join(names)}." if names else "It has none.")


def _list(link: Link, ports: list[str]) -> str:
    return " or ".join(str(Link(link.node, port)) for port in ports)


def _refers(value: Any) -> bool:
    return isinstance(value, Link | ParamRef) or (isinstance(value, list) and any(map(_refers, value)))
