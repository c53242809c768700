"""The order of the nodes: each comes after those that feed it."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Mapping

from nodegraph.errors import Problem
from nodegraph.graph.graph import GraphNode

_LONGEST_PATH = 20  # nodes of a circle that a message lists


def in_order(nodes: Mapping[str, GraphNode], problems: list[Problem]) -> list[str]:
    """The nodes, each after those that feed it, otherwise in the order of the workflow (Kahn 1962)."""
    names = list(nodes)
    position = {name: i for i, name in enumerate(names)}
    followers: list[list[int]] = [[] for _ in names]
    missing = [0] * len(names)
    for i, node in enumerate(nodes.values()):
        for source in node.sources:
            if source in nodes:
                followers[position[source]].append(i)
                missing[i] += 1
    ready = [i for i, count in enumerate(missing) if not count]  # sorted, so it is a heap
    order = []
    while ready:
        first = heapq.heappop(ready)
        order.append(names[first])
        for follower in followers[first]:
            missing[follower] -= 1
            if not missing[follower]:
                heapq.heappush(ready, follower)
    if len(order) < len(names):
        links = [(names[i], names[follower]) for i, after in enumerate(followers) for follower in after]
        problems += _circles(links, position, nodes)
    return order


def _circles(links: Iterable[tuple[str, str]], position: Mapping[str, int], nodes: Mapping[str, GraphNode]) -> Iterator[Problem]:
    import networkx as nx  # slow to import, and most workflows have no circle

    dag: nx.DiGraph[str] = nx.DiGraph()
    dag.add_nodes_from(position)
    dag.add_edges_from(links)
    for component in nx.strongly_connected_components(dag):
        start = min(component, key=position.__getitem__)
        if len(component) > 1 or dag.has_edge(start, start):
            edges = nx.find_cycle(dag.subgraph(component), start)
            path = [edges[0][0], *(edge[1] for edge in edges)]
            if len(path) > _LONGEST_PATH:
                path[4:-4] = [f"... ({len(edges):,} nodes)"]
            message = f"these nodes feed each other: {' -> '.join(path)}"
            yield Problem("E109", message, nodes[start].where, "Remove one of these links.")
