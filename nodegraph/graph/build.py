"""Checks a workflow and builds its graph, or reports every problem at once. Reads no weights and runs no nodes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextvars import copy_context
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from nodegraph.errors import Location, Problem, WorkflowError
from nodegraph.gc_pause import gc_paused
from nodegraph.graph.expansion.decided import Decided
from nodegraph.graph.expansion.flat import Decider, FlatDocument, is_chosen
from nodegraph.graph.expansion.names import UNKNOWN, matches
from nodegraph.graph.graph import Awaited, Decision, Graph, GraphNode, Input, Output, ResolvedLink, Value
from nodegraph.graph.inputs import Inputs
from nodegraph.graph.node_checks import NodeChecks
from nodegraph.graph.order import in_order
from nodegraph.graph.overrides import Override
from nodegraph.graph.params import InputValues
from nodegraph.node_types import literals
from nodegraph.node_types.port_types import accepts, element_type, type_name
from nodegraph.node_types.signature import option_ports
from nodegraph.node_types.spec import NodeSpec, Port
from nodegraph.plugins.manager import Plugins
from nodegraph.text import described, did_you_mean
from nodegraph.workflow.definitions import PARAM_TYPES, Document, Link, NodeDef, OutputDef, ParamRef, is_composed, unwrapped
from nodegraph.workflow.workflow import Workflow

_CASES: Final = (str, int, float, bool)
"""The types of what may be the name of a case."""

if TYPE_CHECKING:
    from nodegraph.graph.composed import Composed, Links
    from nodegraph.graph.expansion.expand import Expansion
    from nodegraph.graph.origins import Origins


def build_graph(workflow: Workflow, plugins: Plugins, overrides: Sequence[Override] = (), targets: Sequence[str] = ()) -> Graph:
    """Check `workflow` and return its graph. `targets` ("node", "node.port", or an output's name) replace its outputs.

    Raises WorkflowError with every problem that was found.
    """
    return _build(workflow, plugins, overrides, targets, decided=Decided())


def _build(
    workflow: Workflow, plugins: Plugins, overrides: Sequence[Override], targets: Sequence[str], *, decided: Decided
) -> Graph:
    builder = _Builder(workflow, plugins, overrides, decided)
    graph = builder.build(targets)
    decided.seeds.update(graph.seeds)
    flat = builder.document
    if not isinstance(flat, FlatDocument) or not flat.deciders:
        return graph
    from nodegraph.graph.expansion.undecided import as_it_is, undecided_part

    copied = as_it_is(workflow)  # it may be changed during the run
    context = copy_context()  # whether files may be fetched, and which are expected

    def decide(values: Mapping[Awaited, Any]) -> Graph:
        known = replace(decided, values={**decided.values, **values})
        with gc_paused():
            return context.copy().run(_build, copied, plugins, overrides, targets, decided=known)

    undecided = undecided_part(
        graph,
        decisions=builder.decisions,
        waits={**builder.inputs.undecided, **flat.undecided},
        outputs=builder.waiting,
        decide=decide,
    )
    seeds = {name: seed for name, seed in graph.seeds.items() if UNKNOWN not in name}
    return replace(graph, undecided=undecided, seeds=seeds)


class _Builder:
    def __init__(self, workflow: Workflow, plugins: Plugins, overrides: Sequence[Override], decided: Decided) -> None:
        self.workflow, self.plugins = workflow, plugins
        self.problems: list[Problem] = []
        self.expansion: Expansion | None = None
        overrides = [*(Override(name, value, base=workflow.base) for name, value in workflow.values.items()), *overrides]
        self.all_overrides = overrides
        self.document: Document = workflow
        if any(map(is_composed, workflow.nodes.values())):
            from nodegraph.graph.expansion.expand import Expansion

            self.expansion = Expansion(workflow, overrides, decided, self.problems)
            self.document, overrides = self.expansion.flat, self.expansion.overrides
        self.overrides = overrides
        self.lists: dict[str, list[Links]] = {}
        self.decisions: dict[Awaited, Decision] = {}
        self.waiting: dict[str, tuple[Awaited, ...]] = {}  # outputs that depend on what is not known, and what they wait for
        nodes = self.document.nodes
        self.types = {node.name: plugins.nodes.get(node.type) for node in nodes.values() if node.type in plugins.nodes}
        self.input_values = InputValues(
            self.document,
            self.types,
            self.problems,
            base=workflow.base,
            declared=self._declared,
            recorded=workflow.recorded,
            seeds=decided.seeds,
        )
        self.inputs = Inputs(
            workflow=self.document,
            plugins=plugins,
            types=self.types,
            input_values=self.input_values,
            problems=self.problems,
            files=decided.files,
        )

    def build(self, targets: Sequence[str]) -> Graph:
        self.input_values.apply(self.overrides)
        nodes = {name: built for name, node in self.document.nodes.items() if (built := self._node(node))}
        if self.expansion is not None:
            self._check_expansion(self.expansion.flat)
        outputs = self._targets(targets) if targets else self._outputs()
        order = in_order(nodes, self.problems)
        NodeChecks(self.inputs).run(nodes[name] for name in dict.fromkeys([*order, *nodes]))  # those in circles at the end
        if self.problems:
            raise WorkflowError(dict.fromkeys(self.problems if self.expansion is None else self._once_for_all_items()))
        params = self.input_values.resolved_params()
        return Graph(
            workflow=self.workflow.name,
            nodes={name: nodes[name] for name in order},
            outputs={name: _with_params(output, params) for name, output in outputs.items()},
            params=params,
            resolved=self._resolved(params),
            seeds=self.input_values.drawn_seeds,
            lists=self.lists,
            origins=self._origins,
            composed=None if self.expansion is None else self._composed(self._leads_to),
        )

    def _declared(self, text: str) -> Any:
        """The type that a param declares. Raises LiteralError if there is no such type."""
        word = PARAM_TYPES.get(text)
        if word is None:
            from nodegraph.graph.param_types import param_type

            return param_type(text, self.plugins)
        return word

    # --- nodes

    def _node(self, node: NodeDef) -> GraphNode | None:
        entry = self.types.get(node.name)
        if entry is None:
            self._unknown_type(node)
            return None
        spec = entry.value
        for input in node.inputs:
            if spec.input(input) is None:
                message = f"{node.type} has no input '{input}' (node '{node.name}')"
                self._problem("E104", message, node.location(input, key=True), _suggest_input(input, spec))
        if node.name in self.document.unread:
            return None
        inputs = {port.name: built for port in spec.inputs if (built := self.inputs.resolve(node, port)) is not None}
        for port in spec.options:
            self._options(node, port, inputs)
        limits = self.inputs.limits.get(node.name, ())
        return GraphNode(
            name=node.name,
            spec=spec,
            origin=entry.origin,
            inputs=inputs,
            where=node.where,
            limits=limits,
            takes=node.takes,
        )

    def _unknown_type(self, node: NodeDef) -> None:
        hint = self.plugins.nodes.suggest(node.type) + self.plugins.why_broken()
        self._problem("E103", f"there is no node type '{node.type}' (node '{node.name}')", node.location("use"), hint)

    def _options(self, node: NodeDef, port: Port, inputs: dict[str, Input]) -> None:
        """Check the options at `port` against those of the thing that the other input names. Bad ones leave it without a value."""
        literal, chosen = inputs.get(port.name), inputs.get(port.options_of.input) if port.options_of else None
        if not isinstance(literal, Value) or not isinstance(literal.value, dict):
            return
        if not isinstance(chosen, Value) or not chosen.entry:
            return
        entry, source = chosen.entry, self.inputs.input_value(node, port.name)
        known = {option.name: option for option in option_ports(entry.value)}
        options = {}
        for name, value in literal.value.items():
            if name not in known:
                hint = f"Its options are {', '.join(known)}." if known else "It has no options."
                message = f"{entry.name} has no option '{name}' ('{port.name}' of node '{node.name}')"
                self.problems.append(source.problem("E104", message, did_you_mean(str(name), known) or hint))
                continue
            try:
                converted = literals.coerce(known[name].type, value)
                literals.check_range(known[name], converted)
                options[name] = converted
            except literals.LiteralError as error:
                message = f"option '{name}' of {entry.name} ('{port.name}' of node '{node.name}'): {error.message}"
                hint = error.hint or f"Its default is {described(known[name].default)}."
                self.problems.append(source.problem(error.code, message, hint))
        if len(options) == len(literal.value):
            inputs[port.name] = replace(literal, value=options)
        else:
            del inputs[port.name]

    # --- outputs and order

    def _outputs(self) -> dict[str, Output]:
        outputs: dict[str, Output] = {}
        composed = self.expansion.flat.outputs_of if self.expansion is not None else {}
        for output in self.workflow.outputs.values():
            if output.name in composed:
                self._add_composed(outputs, output, composed[output.name], f"output '{output.name}'")
                continue
            found = self.inputs.link(output.link, output.where, f"output '{output.name}': {output.link}")
            if found is not None:
                self._add_output(outputs, output, *found)
        return outputs

    def _add_output(
        self, outputs: dict[str, Output], output: OutputDef, link: ResolvedLink, port: Port, *, index: int | None = None
    ) -> None:
        if self.plugins.codecs.for_type(port.type) is None:
            message = f"output '{output.name}' is {type_name(port.type)}, which cannot be written to a file"
            self._problem("E115", message, output.where, self._writable(Link(link.node)))
        added = Output(name=output.name, link=link, save=output.save, options=output.options, where=output.where, index=index)
        outputs[added.full_name] = added

    def _add_composed(
        self, outputs: dict[str, Output], output: OutputDef, value: Any, user: str, *, is_target: bool = False
    ) -> None:
        """Add an output that comes from a composed node: one, or those of all items."""
        from nodegraph.graph.composed import leaves

        composed = self._composed(lambda link: self._leads_to(link, output.where, user))
        before = len(self.problems)
        links, waits = composed.resolved(value), composed.waits(value)
        if waits:
            self.waiting[output.name] = waits
        if links is None:
            if len(self.problems) == before and not self.document.unread and not waits:
                message = f"{user} is the value {described(unwrapped(value))}, which no node makes"
                self._problem("E115", message, output.where, "Give it to a node, or leave the output out.")
            return
        if isinstance(links, list):
            self.lists[output.name] = links
        for index, link in enumerate(leaves(links)):
            if link.node not in self.types:  # an unknown type has been reported
                continue
            port = self.types[link.node].value.output(link.port)
            number = index if isinstance(links, list) else None
            if is_target:
                options = output.options
                added = Output(name=output.name, link=link, save=output.save, options=options, index=number)
                outputs[added.full_name] = added
            elif port is not None:
                self._add_output(outputs, output, link, port, index=number)

    def _targets(self, targets: Iterable[str]) -> dict[str, Output]:
        outputs: dict[str, Output] = {}
        for target in targets:
            name, _, port = target.partition(".")
            wanted = self.workflow.outputs.get(target)
            value = None
            if self.expansion is not None:
                in_outputs = wanted is not None and name not in self.workflow.nodes
                value = self.expansion.flat.outputs_of.get(target) if in_outputs else self.expansion.value_of(target)
            if name in self.document.nodes:
                link = Link(name, port or None)
                wanted = wanted if wanted and wanted.link.node == name else None
            elif value is not None:
                save, options = (wanted.save, wanted.options) if wanted is not None else (None, {})
                output = OutputDef(target, Link(name), save, options=options)
                self._add_composed(outputs, output, value, f"target '{target}'", is_target=True)
                continue
            elif wanted is not None:
                link = wanted.link
            elif name in self.document.unread:
                continue
            else:
                hint = did_you_mean(target, [*self.workflow.nodes, *self.workflow.outputs])
                self._problem("E120", f"target '{target}': there is no such node or output", None, hint)
                continue
            found = self.inputs.link(link, None, f"target '{target}'")
            if found is not None:
                save, options = (wanted.save, wanted.options) if wanted is not None else (None, {})
                outputs[target] = Output(name=target, link=found[0], save=save, options=options)
        return outputs

    def _leads_to(self, link: Link, where: Location | None = None, user: str = "") -> ResolvedLink | None:
        found = self.inputs.link(link, where, f"{user}: {link}")
        return None if found is None else found[0]

    # --- composed nodes

    def _composed(self, resolve: Callable[[Link], ResolvedLink | None]) -> Composed:
        from nodegraph.graph.composed import Composed

        assert self.expansion is not None  # the workflow has composed nodes
        return Composed(self.expansion, resolve)

    def _once_for_all_items(self) -> list[Problem]:
        from nodegraph.graph.composed import once_for_all_items

        return once_for_all_items(self.problems)

    def _check_expansion(self, flat: FlatDocument) -> None:
        """Check what no node of the graph uses, or what is not a value yet."""
        before = len(self.problems)
        for border in flat.borders:
            try:
                declared = self._declared(border.param.type or "")
            except literals.LiteralError as error:
                self._problem("E114", error.message, border.param.where, error.hint)
                continue
            self.inputs.check_linked(border.node, Port(border.param.name, declared), border.value)
        wrong = {problem.where for problem in self.problems[before:]}  # what the nodes inside say of the same values adds nothing
        self.problems[:before] = [p for p in self.problems[:before] if p.where not in wrong or p.code not in ("E108", "E110")]
        for node, chosen in flat.switches:
            for value in (chosen.value, *chosen.others):
                if not is_chosen(value):  # another Switch, which is checked itself
                    self.inputs.check(node, Port("cases", Any), value)
        for node in flat.unused:
            if node.type not in self.plugins.nodes:
                self._unknown_type(node)
        for decider in flat.deciders.values():
            self._decision(decider)

    def _decision(self, decider: Decider) -> None:
        """Check that a value that decides the graph is a list, or can be the name of a case."""
        link, is_length = decider.awaited
        found = self.inputs.link(link, decider.where, f"{decider.user}: {link}")
        if found is None:
            return
        source, port = found
        fits = element_type(port.type) is not None if is_length else any(accepts(kind, port.type) for kind in _CASES)
        if not fits:
            expected = "a list" if is_length else "text, a number, or true or false"
            message = f"{decider.user}: expected {expected}, but {link} is {type_name(port.type)}"
            self._problem("E119", message, decider.where, "Put it in brackets." if is_length else "")
        self.decisions[decider.awaited] = Decision(awaited=decider.awaited, source=source, user=decider.user, where=decider.where)

    def _origins(self) -> Origins:
        from nodegraph.graph.origins import Origins

        return Origins(self.document, self.input_values)

    def _resolved(self, params: Mapping[str, Any]) -> Workflow:
        """The workflow with the params, overrides and seeds of this graph written into it."""
        resolved = Workflow(self.workflow.name, self.workflow.description, base=self.workflow.base)
        resolved.file = self.workflow.file
        resolved.params.update({name: replace(param, default=params[name]) for name, param in self.workflow.params.items()})
        resolved.nodes = dict(self.workflow.nodes)
        resolved.outputs.update(self.workflow.outputs)
        resolved.workflows, resolved.sweep = self.workflow.workflows, self.workflow.sweep
        for (node, input), value in self.inputs.resolved.items():
            if node not in resolved.nodes:
                resolved.values[f"{node}.{input}"] = value
            else:
                definition = resolved.nodes[node]
                resolved.nodes[node] = replace(definition, inputs={**definition.inputs, input: value})
        if self.expansion is not None:
            from nodegraph.graph.composed import write_back

            write_back(resolved, self.expansion.flat.changed, self.input_values.drawn_seeds, self.expansion.sizes())
            resolved.values |= self._values_inside()
        return resolved

    def _values_inside(self) -> dict[str, Any]:
        """The values of params of sub-workflows that were given from outside, and of those deeper inside that were drawn."""
        values, found = self.input_values, dict[str, Any]()
        names = [name for name in values.params if "." in name]
        for override in self.all_overrides:
            node, _, input = override.name.partition(".")
            for name in names:
                owner, _, param = name.rpartition(".")
                if param == input.partition(".")[0] and matches(node, owner):
                    found[name] = values.params[name].in_workflow(path=values.is_path(name))
        return found | {name: seed for name, seed in values.drawn_seeds.items() if "/" in name.rpartition(".")[0]}

    # --- messages

    def _writable(self, link: Link) -> str:
        """The outputs of the same node that can be written to a file."""
        ports = [port for port in self.types[link.node].value.outputs if self.plugins.codecs.for_type(port.type) is not None]
        listed = " or ".join(f"'{Link(link.node, port.name)}'" for port in ports)
        return f"Use {listed}." if listed else "Use the output of a node that takes it."

    def _problem(self, code: str, message: str, where: Location | None, hint: str = "") -> None:
        self.problems.append(Problem(code, message, where, hint))


def _suggest_input(name: str, spec: NodeSpec) -> str:
    names = [port.name for port in spec.inputs]
    return did_you_mean(name, names) or (f"Its inputs are {', '.join(names)}." if names else "It has no inputs.")


def _with_params(output: Output, params: Mapping[str, Any]) -> Output:
    """An output whose options have the values of the params that they refer to."""
    values = {
        name: params.get(value.name, value) if isinstance(value, ParamRef) else value for name, value in output.options.items()
    }
    return replace(output, options=values)
