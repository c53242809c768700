"""Why each node would run: what differs from the last run of the same workflow."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from nodegraph.graph.graph import ResolvedLink
from nodegraph.light_dataclass import dataclass
from nodegraph.run.plan import Action, Plan
from nodegraph.run.record import StoredForm, stored_form
from nodegraph.text import described
from nodegraph.workflow.definitions import Link


@dataclass(frozen=True, kw_only=True)
class Explained:
    """A node, what would happen to it, and why it would run. Nodes that are cached or pruned have no reason.

    "undecided": a value that is not known yet decides whether the node exists, or what it receives. `reason` names the value.
    """

    node: str
    action: Action | Literal["undecided"]
    reason: str = ""


def explain(plan: Plan, earlier: Mapping[str, StoredForm]) -> list[Explained]:
    """What would happen to each node. `earlier` holds the forms of the same nodes in their last run."""
    running = set(plan.names("run"))
    known = [
        Explained(node=name, action=action, reason=_reason(plan, name, earlier.get(name), running) if action == "run" else "")
        for name, action in plan.actions.items()
    ]
    return [*known, *(Explained(node=name, action="undecided", reason=reason) for name, reason in plan.undecided.items())]


def _reason(plan: Plan, name: str, before: StoredForm | None, running: set[str]) -> str:
    form = plan.known.keys.parts.get(name)
    if form is None:
        return plan.uncached[name]
    if not plan.graph.nodes[name].spec.keep:
        return plan.uncached[name]
    if name in plan.known.forced:
        return "it is forced, or below a forced node"
    if before is not None:
        difference = next(differences(before, stored_form(form)), None)
        if difference is not None:
            return difference
    links = [link for link in _links(stored_form(form)["inputs"]) if link[1].node in running]
    links.sort(key=lambda link: plan.known.digest(link[1]) is not None)  # values that are not known yet come first
    for port, link in links:
        return f"{port}: '{link.node}' may return another value"
    ports = (plan.graph.nodes[name].spec.output(port) for port in plan.needed.get(name, ()))
    if all(port is not None and plan.known.codecs.never(port.type) for port in ports):
        return "its result is kept in memory only, and a node below needs it"
    if before is None:
        return "it has not run before in this workflow"
    return "its result is no longer in the cache"


_OTHER_CHOICE: Final = "its plugin has registered another function or value under this name"


def differences(before: StoredForm, now: StoredForm) -> Iterator[str]:
    """The differences between two forms of a node, as text, the most important first."""
    if before.get("type") != now["type"]:
        (old, old_version), (new, new_version) = before["type"], now["type"]
        yield f"type: {old} -> {new}" if old != new else f"{new} version {old_version} -> {new_version}"
    old_inputs, inputs = before.get("inputs", {}), now["inputs"]
    for port, value in inputs.items():
        if port not in old_inputs:
            yield f"{port}: a new input"
        elif old_inputs[port] != value:
            yield _change(port, old_inputs[port], value)
    if before.get("code") != now["code"]:
        yield _code_change(str(before.get("code")), now["code"])
    elif before.get("choice", "") != now.get("choice", ""):
        yield _OTHER_CHOICE
    if before.get("state") != now.get("state"):
        yield f"state of the process: {before.get('state', 'as usual')} -> {now.get('state', 'as usual')}"
    if before.get("numeric") != now["numeric"]:
        yield f"numerics: {before.get('numeric')} -> {now['numeric']}"


def _change(port: str, old: Any, new: Any) -> str:
    if old[0] == new[0] == "files":
        return _file_change(port, dict(old[1]), dict(new[1]))
    if old[0] == new[0] == "read" and old[1] == new[1]:
        return _file_change(port, dict(old[2]), dict(new[2]))
    if old[0] == new[0] == "registered" and old[1] == new[1]:
        return f"{port}: {new[1]}: {_code_change(old[2], new[2]) if old[2] != new[2] else _OTHER_CHOICE}"
    return f"{port}: {described(_untagged(old))} -> {described(_untagged(new))}"


def _file_change(port: str, old: Mapping[str, str], new: Mapping[str, str]) -> str:
    """Such as "model file changed", or which of several files did."""
    if old.keys() != new.keys():
        return f"{port}: other files"
    changed = [name for name, digest in new.items() if old[name] != digest]
    if len(new) == 1:
        return f"{port} file changed"
    return f"{port} file{'s' if len(changed) > 1 else ''} changed: {', '.join(changed)}"


def _code_change(old: str, new: str) -> str:
    """Such as "nodegraph_nodes 0.2 -> 0.3". The code of a file or an editable install has a digest instead of a version."""
    (old_name, _, old_state), (new_name, _, new_state) = old.partition(" "), new.partition(" ")
    if old_name != new_name:
        return f"plugin {old} -> {new}"
    if len(new_state) == 64 and len(old_state) == 64:
        return f"the code of plugin {new_name} changed"
    (old_version, _, _), (new_version, _, _) = old_state.partition(" "), new_state.partition(" ")
    if old_version == new_version:
        return f"{new_name} {new_version} is another build, or libraries that it uses have other versions"
    return f"{new_name} {old_version[:12]} -> {new_version[:12]}"


@dataclass(frozen=True, repr=False)
class _PlainText:
    """Text that is shown without quotes."""

    text: str

    def __repr__(self) -> str:
        return self.text


def _untagged(value: Any) -> Any:
    """The value that a tagged form stands for."""
    kind, *rest = value
    if kind == "none":
        return None
    if kind == "link":
        return Link(rest[0], rest[1])
    if kind == "float":
        return float.fromhex(rest[0])
    if kind in ("int", "bool"):
        return ast.literal_eval(rest[0])
    if kind in ("list", "tuple", "many"):
        return [_untagged(item) for item in rest[0]]
    if kind == "dict":
        return {_untagged(key): _untagged(value) for key, value in rest[0]}
    if kind in ("registered", "files"):
        return _PlainText(str(rest[0]) if kind == "registered" else "a file")
    return rest[0]


def _links(inputs: Mapping[str, Any]) -> Iterator[tuple[str, ResolvedLink]]:
    """Each link, with its input."""
    pending = [(port, value) for port, value in inputs.items()][::-1]
    while pending:
        port, value = pending.pop()
        if value[0] == "link":
            yield port, ResolvedLink(value[1], value[2])
        elif value[0] == "many":
            pending.extend((port, item) for item in value[1][::-1])
