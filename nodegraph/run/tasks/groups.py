"""Which nodes make up one task, and which stay in this process, if workers share no memory with the run.

A value without a codec never leaves its task. So a node is in one task with the nodes that make such values for it; these are
repeated in another task that needs their values, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nodegraph.graph.graph import ResolvedLink
from nodegraph.run.plan import Plan
from nodegraph.run.tasks.maker import TaskMaker, is_data


@dataclass(frozen=True, kw_only=True, eq=False)
class Group:
    """The nodes of one task, in the order of the graph. `goals` are those that the task is for; the others make values for them."""

    nodes: Sequence[str]
    goals: frozenset[str]


@dataclass(frozen=True, kw_only=True, eq=False)
class Missing:
    """The nodes whose results a task needs before it can run."""

    nodes: Sequence[str]


class TaskGroups:
    """Makes the groups of one run. The nodes in `local` have no group: they stay in this process."""

    def __init__(self, plan: Plan, maker: TaskMaker) -> None:
        self._maker, self._nodes = maker, plan.graph.nodes
        self._position: Final = {name: i for i, name in enumerate(self._nodes)}
        self.local = self._find_local(plan)

    def group(
        self, name: str, *, done: Collection[str], failed: Collection[str], is_stored: Callable[[ResolvedLink], bool]
    ) -> Group | Missing:
        """The task for a node that is not local, or what it waits for.

        `is_stored` tells whether the cache has the value behind a link. It is asked if the type has no codec: the value may have
        one, such as a number of type Any.
        """
        members, missing = {name}, dict[str, None]()
        pending = [name]
        while pending:
            for link in self._nodes[pending.pop()].links():
                source = link.node
                if source in members:
                    continue
                if source in failed:
                    missing[source] = None
                elif not (self._maker.can_pass_on(source, link.port) or (source in done and is_stored(link))):
                    members.add(source)
                    pending.append(source)
                elif source not in done:
                    missing[source] = None
        if missing := {source: None for source in missing if source not in members or source in failed}:
            return Missing(nodes=[*missing])
        return Group(nodes=sorted(members, key=self._position.__getitem__), goals=frozenset([name]))

    def merged(self, groups: Iterable[Group]) -> list[Group]:
        """One group for those that have a node in common, so that this node runs once for all of them."""
        found: list[Group] = []
        for group in groups:
            nodes, goals = set(group.nodes), group.goals
            others = []
            for other in found:
                if nodes.isdisjoint(other.nodes):
                    others.append(other)
                else:
                    nodes.update(other.nodes)
                    goals |= other.goals
            found = [*others, Group(nodes=sorted(nodes, key=self._position.__getitem__), goals=goals)]
        return found

    def _find_local(self, plan: Plan) -> frozenset[str]:
        """The nodes that stay in this process: see `Workers`."""
        linked: dict[str, list[str]] = {}  # by values without a codec
        local: dict[str, None] = {}
        for name in plan.names("run"):
            node = self._nodes[name]
            if not all(map(is_data, node.inputs.values())):
                local[name] = None
            for link in node.links():
                if not self._maker.can_pass_on(link.node, link.port):
                    linked.setdefault(link.node, []).append(name)
                    linked.setdefault(name, []).append(link.node)
                    if not self._nodes[link.node].spec.pure or _is_only_in_memory(link, plan):
                        local[name] = None
        for output in plan.graph.outputs.values():
            if not self._maker.can_pass_on(output.link.node, output.link.port):
                local[output.link.node] = None
        return _reachable(local, linked)


def _is_only_in_memory(link: ResolvedLink, plan: Plan) -> bool:
    hit = plan.known.hits.get(link.node)
    return hit is not None and link.port not in hit.stored


def _reachable(names: Iterable[str], linked: Mapping[str, Sequence[str]]) -> frozenset[str]:
    found = set(names)
    pending = [*found]
    while pending:
        new = [name for name in linked.get(pending.pop(), ()) if name not in found]
        found.update(new)
        pending.extend(new)
    return frozenset(found)
