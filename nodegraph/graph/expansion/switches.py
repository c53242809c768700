"""`Switch`: what follows it receives the value of the chosen case, and the others are only checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

from nodegraph.errors import Location, Problem
from nodegraph.graph.expansion.flat import Chosen, Decider, FlatDocument, Unknown
from nodegraph.graph.expansion.scopes import Given, SwitchItem
from nodegraph.graph.expansion.values import Values, as_case, evaluated, is_linked
from nodegraph.graph.graph import Awaited
from nodegraph.graph.overrides import InputValue
from nodegraph.light_dataclass import dataclass
from nodegraph.text import described, did_you_mean
from nodegraph.workflow.definitions import SWITCH, Link, NodeDef, ParamRef

ON: Final = "on"
SWITCH_INPUTS: Final = (ON, "cases")


@dataclass(frozen=True, kw_only=True, eq=False)
class Parts:
    """What a composed node is made with."""

    flat: FlatDocument
    values: Values
    problems: list[Problem]
    decided: Mapping[Awaited, Any]

    def report(self, code: str, message: str, where: Location | None, hint: str = "") -> None:
        self.problems.append(Problem(code, message, where, hint))


def switch_item(node: NodeDef, name: str, received: Mapping[str, Given], parts: Parts) -> SwitchItem | None:
    """The value that a `Switch` stands for; None if it is wrong, which has been reported."""
    for input in received:
        if input not in SWITCH_INPUTS:
            hint = did_you_mean(input, SWITCH_INPUTS) or "Its inputs are on, cases."
            parts.report("E104", f"Switch has no input '{input}' (node '{name}')", node.location(input, key=True), hint)
            return None
    for input in SWITCH_INPUTS:
        if input not in received:
            parts.report("E105", f"node '{name}' (Switch) has no value for '{input}'", node.where, f"Add '{input}: ...'.")
            return None
    on, cases = (evaluated(received[input]) for input in SWITCH_INPUTS)
    if on is None or cases is None:
        return None
    if not isinstance(cases.value, dict) or not cases.value:
        message = f"'cases' of node '{name}': expected a mapping of names to values, found {described(cases.value)}"
        parts.report("E119", message, cases.where, "Write 'cases: {NAME: $NODE, ...}'.")
        return None
    base, where = cases.base, cases.where
    values = {
        str(case): InputValue(value=value, base=base, home=base, where=where, source=f"case '{case}' of node '{name}'")
        for case, value in cases.value.items()
    }
    found, waits = parts.values.followed(on)
    if isinstance(found.value, Link) and found.value.node not in parts.flat.unread:
        awaited = Awaited(found.value, is_length=False)
        if awaited in parts.decided:
            found = replace(found, value=parts.decided[awaited])
        elif not waits:
            waits = (awaited,)
            parts.flat.deciders[awaited] = Decider(awaited=awaited, user=f"'on' of node '{name}'", where=node.location(ON))
    case = as_case(found)
    if waits and case not in values:
        case = next(iter(values))
    if case not in values:
        hint = did_you_mean(case or "", values) or f"The cases are {', '.join(values)}."
        if is_linked(found):
            hint = "Use a value, a param, or the output of a node."
        elif isinstance(found.value, ParamRef):
            hint = "There is no such param." if found.value.name not in parts.flat.unread else ""
        message = f"'on' of node '{name}' is {described(found.value)}, and there is no such case"
        parts.report("E119", message, node.location(ON), hint)
        return None
    chosen = Chosen(values[case], tuple(value for other, value in values.items() if other != case))
    parts.flat.switches.append((NodeDef(name, SWITCH, {}, where=node.where), chosen))
    return SwitchItem(value=Unknown(chosen, waits) if waits else chosen)
