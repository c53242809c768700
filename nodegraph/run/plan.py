"""What has to run: the graph is walked back from its outputs, and a result in the cache prunes everything above it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from typing import TYPE_CHECKING, Final, Literal

from nodegraph.cache.cache import Cache
from nodegraph.cache.keys import Keys
from nodegraph.errors import Problem, WorkflowError
from nodegraph.graph.graph import Graph
from nodegraph.light_dataclass import dataclass
from nodegraph.run.known_results import _NONE_CARRIED, Carried, KnownResults
from nodegraph.text import did_you_mean

if TYPE_CHECKING:
    from nodegraph.run.verification import Verification

_NOT_KEPT: Final = "its type does not keep results, and a node below needs this one"

Action = Literal["run", "cached", "pruned"]

_ACTION_WORDS: Final[Mapping[Action, str]] = {"run": "to run", "cached": "cached", "pruned": "not needed"}


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Plan:
    """For each node whether it runs, is taken from the cache, or is not needed.

    A node that is planned to run may still be found in the cache during the run, once the digests of its inputs are known. Then
    the nodes that only it needs do not run either. `needed` holds the ports whose values may be needed.
    """

    graph: Graph
    known: KnownResults
    actions: Mapping[str, Action]
    needed: Mapping[str, frozenset[str]] = field(default_factory=dict)

    def __repr__(self) -> str:
        counts = ", ".join(f"{len(self.names(action))} {word}" for action, word in _ACTION_WORDS.items())
        return f"<Plan of {self.graph.workflow}: {counts}>"

    @property
    def uncached(self) -> Mapping[str, str]:
        """The reason for each node whose result is never kept."""
        not_kept = {name: _NOT_KEPT for name, node in self.graph.nodes.items() if not node.spec.keep}
        return {**not_kept, **self.known.keys.without_key}

    @property
    def keys(self) -> Mapping[str, str]:
        """The key of each node: the static key, or else the content key if it is known."""
        keys = {name: self.known.key(name) for name in self.graph.nodes}
        return {name: key for name, key in keys.items() if key is not None}

    @property
    def undecided(self) -> Mapping[str, str]:
        """The nodes that may be there once values are known that decide it, each with the reason why it is not known."""
        undecided = self.graph.undecided
        return {} if undecided is None else {name: undecided.reason(name) for name in undecided.nodes}

    def names(self, action: Action) -> list[str]:
        """The nodes with this action, in topological order."""
        return [name for name, planned in self.actions.items() if planned == action]


def make_plan(
    graph: Graph,
    keys: Keys,
    cache: Cache,
    force: Collection[str] = (),
    *,
    done: Collection[str] = (),
    carried: Mapping[str, Carried] = _NONE_CARRIED,
    verification: Verification | None = None,
) -> Plan:
    """The plan of a run.

    A node in `force`, and every node below it, runs whatever the cache holds, if an output needs it and it is not `done`. Raises
    WorkflowError if `force` names a node that does not exist. A node in `verification` also runs, even if only nodes above an
    output that is in the cache need it; the nodes below it are looked up once its values are known. `carried` are results of nodes
    that ran earlier in the run.
    """
    forced, order = _forced(graph, force).difference(done), list(graph.nodes)
    while True:
        known = KnownResults(
            graph,
            keys,
            cache,
            forced,
            untrusted=_with_nodes_below(graph, verification.nodes) if verification is not None else (),
            is_checked=verification.covers if verification is not None else None,
            carried=carried,
        )
        needed = _look_up_all(known, order)
        if not cache.has_shared_store or cache.fetch(_needed_hits(known, needed)):
            break  # else a value of the shared store cannot be had, and is a miss from now on
    actions: dict[str, Action] = {}
    for name in order:
        actions[name] = "pruned" if name not in needed else "cached" if name in known.hits else "run"
    known.free_values(known.hits.keys() - needed.keys())
    return Plan(
        graph=graph,
        known=known,
        actions=actions,
        needed={name: frozenset(ports) for name, ports in needed.items()},
    )


def _look_up_all(known: KnownResults, order: list[str]) -> dict[str, set[str]]:
    """Look up what the outputs need, and return the needed ports of each node."""
    graph, cache = known.graph, known.cache
    known.fetches = False
    with cache.at_one_time():
        opened = _needed(graph, order, lambda name, ports: known.find(name, ports))
        for name in order:  # a new static key may still lead to a known content key
            if name in opened and name not in known.hits:
                known.derive(name, opened[name])
    known.fetches = True
    return _needed(graph, order, lambda name, ports: name in known.hits)


def _needed_hits(known: KnownResults, needed: Mapping[str, Collection[str]]) -> dict[str, Collection[str]]:
    """The content keys of needed results in the cache, and the needed ports of each."""
    return {known.content[name]: ports for name, ports in needed.items() if name in known.hits and name in known.content}


def _needed(graph: Graph, order: list[str], is_cached: Callable[[str, set[str]], bool]) -> dict[str, set[str]]:
    """The needed ports of each node, walked back from the outputs until a result is in the cache."""
    needed: dict[str, set[str]] = {}
    for output in graph.outputs.values():
        needed.setdefault(output.link.node, set()).add(output.link.port)
    for name in reversed(order):
        if name in needed and not is_cached(name, needed[name]):
            for link in graph.nodes[name].links():
                needed.setdefault(link.node, set()).add(link.port)
    return needed


def _forced(graph: Graph, force: Collection[str]) -> set[str]:
    """The forced nodes and every node below them. The name of a composed node means all nodes inside it."""
    if graph.composed is not None:
        force = [name for forced in force for name in (graph.composed.inside(forced) or [forced])]
    if graph.undecided is not None:
        force = [name for name in force if name not in graph.undecided.nodes]
    problems = [
        Problem("E120", f"force '{name}': there is no such node", None, did_you_mean(name, graph.nodes))
        for name in force
        if name not in graph.nodes
    ]
    if problems:
        raise WorkflowError(problems)
    return _with_nodes_below(graph, force)


def _with_nodes_below(graph: Graph, names: Collection[str]) -> set[str]:
    """The nodes in `names`, and every node that depends on one of them."""
    found = set(names)
    if found:
        for name, node in graph.nodes.items():
            if any(link.node in found for link in node.links()):
                found.add(name)
    return found
