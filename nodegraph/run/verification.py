"""Checking results in the cache by computing them again: which ones a run checks, and what is wrong with one that differs."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any

from nodegraph.cache.results import CachedResult
from nodegraph.graph.graph import Graph, GraphNode
from nodegraph.light_dataclass import dataclass
from nodegraph.run.known_results import value_of

_DIGITS = 16


@dataclass(frozen=True, kw_only=True, eq=False)
class Verification:
    """The nodes whose results a run computes again if they are in the cache. `machine` is the kind of machine that it runs on.

    They were drawn from the nodes in `known`.
    """

    nodes: frozenset[str] = frozenset()
    machine: str = ""
    known: frozenset[str] = frozenset()

    def covers(self, node: GraphNode, hit: CachedResult) -> bool:
        """Whether a result in the cache has to be computed again."""
        return node.name in self.nodes and bool(checkable(hit)) and not self.is_of_another_machine(node, hit)

    def is_of_another_machine(self, node: GraphNode, hit: CachedResult) -> bool:
        """Whether the result of a numeric node comes from another kind of machine, where it may be rounded in another way."""
        return node.spec.numeric and hit.computation.machine != self.machine

    def extended(self, graph: Graph, share: float) -> Verification:
        """The same with those of the nodes of `graph` that are drawn now, since they were not there before."""
        new = [name for name in graph.nodes if name not in self.known]
        if not new:
            return self
        return Verification(nodes=self.nodes | draw(new, share), machine=self.machine, known=self.known.union(new))

    def without(self, done: Collection[str]) -> Verification:
        """The same without the nodes that are done."""
        return replace(self, nodes=self.nodes.difference(done))


@dataclass(frozen=True, kw_only=True)
class WrongResult:
    """A stored result that differs from what the node computes now.

    `stored` and `computed` hold the digests of the ports that differ; None: the value cannot be stored. `created` (seconds since
    1970), `machine`, `same_machine` (of the kind that found it), `workflow` and `made_by` (a node) are what the cache knows of the
    stored one. `plugin` is the plugin that made both, with its version or the digest of its code: it is part of the key.
    """

    node: str
    type: str
    key: str
    stored: Mapping[str, str]
    computed: Mapping[str, str | None]
    plugin: str
    created: float | None
    machine: str
    same_machine: bool
    workflow: str
    made_by: str

    def __str__(self) -> str:
        ports = ", ".join(
            f"'{port}' was {digest[:_DIGITS]} and is {(self.computed[port] or 'not stored')[:_DIGITS]}"
            for port, digest in self.stored.items()
        )
        when = "" if self.created is None else f" on {time.strftime('%Y-%m-%d at %H:%M:%S', time.localtime(self.created))}"
        machine = "this kind of machine" if self.same_machine else f"another kind of machine ({self.machine or 'unknown'})"
        plugin, _, version = self.plugin.partition(" ")
        return (
            f"the stored result of node '{self.node}' ({self.type}) was wrong: {ports}. It was made{when} by {self.workflow}/"
            f"{self.made_by}, by {plugin} {version[:_DIGITS]} and {machine}, under key {self.key[:_DIGITS]}. It is in quarantine "
            f"now, and the computed result is used. If it differs again, the node is not deterministic, and its plugin should "
            f"declare @node(..., pure=False)"
        )

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def draw(names: Iterable[str], share: float) -> frozenset[str]:
    """The nodes whose results a run checks: each one is drawn with probability `share`."""
    if share <= 0:
        return frozenset()
    import random  # a run that checks nothing does not need it

    generator = random.Random()
    return frozenset(name for name in names if share >= 1 or generator.random() < share)


def draw_verification(graph: Graph, share: float, machine: str) -> Verification:
    """What a run on `machine` checks."""
    return Verification(machine=machine).extended(graph, share)


def checkable(hit: CachedResult) -> dict[str, str]:
    """The digests of a result that are made of its values. That of a value without a codec, such as a model, is made of the key."""
    return {port: digest for port, digest in hit.digests.items() if digest != value_of(hit.key, port)}
