"""Which nodes make up one task, and which stay in this process, if workers share no memory with the run.

A value without a codec never leaves its task. So a node is in one task with the nodes that make such values for it; these are
repeated in another task that needs their values, too.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from nodegraph.graph.graph import Graph, GraphNode, ResolvedLink
from nodegraph.light_dataclass import dataclass
from nodegraph.plugins.codecs import Codecs
from nodegraph.run.plan import Plan
from nodegraph.run.tasks.maker import TaskMaker, is_data
from nodegraph.run.tasks.task import Demand


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

    def __init__(self, plan: Plan, maker: TaskMaker, codecs: Codecs) -> None:
        self._codecs = codecs
        self._maker, self._nodes, self._plan = maker, plan.graph.nodes, plan
        self._position: Final = {name: i for i, name in enumerate(self._nodes)}
        self.local = self._find_local(plan)

    def demands(self) -> list[Demand]:
        """What the nodes need that workers may have to run."""
        return [
            _demand(self._nodes[name], self._nodes, self._codecs, self._files_for(name))
            for name in self._plan.names("run")
            if name not in self.local
        ]

    def _files_for(self, name: str) -> Mapping[Path, str]:
        """The files of a node, and of those that make values without a codec for it, with their digests."""
        files, seen, pending = dict[Path, str](), {name}, [name]
        while pending:
            node = pending.pop()
            files |= self._plan.known.keys.files.get(node, {})
            for link in self._nodes[node].links():
                if link.node not in seen and not self._maker.can_pass_on(link.node, link.port):
                    seen.add(link.node)
                    pending.append(link.node)
        return files

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


def undecided_demands(graph: Graph, codecs: Codecs) -> list[Demand]:
    """What those nodes of a graph need of which it is not known yet whether they run."""
    names = () if graph.undecided is None else graph.undecided.nodes
    return [_demand(graph.nodes[name], graph.nodes, codecs, {}) for name in names]


def _demand(node: GraphNode, nodes: Mapping[str, GraphNode], codecs: Codecs, files: Mapping[Path, str]) -> Demand:
    ports = (nodes[link.node].spec.output(link.port) for link in node.links())
    has_model = any(port is not None and codecs.never(port.type) for port in ports)
    return Demand(numeric=node.spec.numeric, model=has_model, files=files)


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
