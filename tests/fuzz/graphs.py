"""Random graphs: each follows from one whole number, its seed.

Graphs with nearby seeds are parts of one large graph, in which some have a literal changed: most of their nodes are the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random
from typing import Any, NamedTuple

NEIGHBOURS = 40
"""How many graphs are parts of one large graph."""

LARGE_NODES = 34

FLOATS = [0.0, -0.0, 0.0, -0.0, 1.0, 0.1, 5e-324, -2.5]


class Link(NamedTuple):
    node: int
    port: str


class Literal(NamedTuple):
    value: Any


class Offered(NamedTuple):
    """A value given in Python: the `number`th object of its kind."""

    kind: str
    number: int


class ReadFile(NamedTuple):
    number: int


class Several(NamedTuple):
    items: tuple[Link | Literal, ...]


Input = Link | Literal | Offered | ReadFile | Several


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node. `returns` are the kinds of its outputs."""

    type: str
    inputs: Mapping[str, Input]
    returns: Mapping[str, str]

    def links(self) -> list[Link]:
        items = [item for input in self.inputs.values() for item in (input.items if isinstance(input, Several) else [input])]
        return [item for item in items if isinstance(item, Link)]


@dataclass(frozen=True, kw_only=True)
class Graph:
    """Nodes by number, each after those it depends on, and the outputs that are wanted: every source is among them."""

    seed: int
    nodes: Mapping[int, Node]
    targets: tuple[Link, ...]
    names: Mapping[int, str] = field(default_factory=dict)


def make_graph(seed: int, types: Mapping[str, Any]) -> Graph:
    """The graph of a seed. `types` are the node types of the plugin, by name."""
    random = Random(f"graph {seed}")
    nodes = dict(enumerate(_large_graph(seed // NEIGHBOURS, tuple(types.items()))))
    for _ in range(random.choice([0, 0, 1, 1, 2])):
        _change_literal(nodes, random)
    for _ in range(random.randrange(3)):
        nodes[len(nodes)] = _node(nodes, types, random)
    wanted = random.sample(sorted(nodes), random.randint(1, 4))
    used: set[int] = set()
    pending = list(wanted)
    while pending:
        number = pending.pop()
        if number not in used:
            used.add(number)
            pending += [link.node for link in nodes[number].links()]
    nodes = {number: nodes[number] for number in sorted(used)}
    sources = [number for number, node in nodes.items() if types[node.type].allows is not None]
    extra = [number for number in nodes if random.random() < 0.15]
    targets = [Link(number, port) for number in {*wanted, *sources, *extra} for port in nodes[number].returns]
    random.shuffle(targets)
    names = {number: f"{random.choice('abcdefgh')}{number}" for number in nodes}
    return Graph(seed=seed, nodes=nodes, targets=tuple(targets), names=names)


@lru_cache(maxsize=8)
def _large_graph(number: int, types: tuple[tuple[str, Any], ...]) -> tuple[Node, ...]:
    random = Random(f"large graph {number}")
    nodes: dict[int, Node] = {}
    while len(nodes) < LARGE_NODES:
        nodes[len(nodes)] = _node(nodes, dict(types), random)
    return tuple(nodes.values())


def _node(nodes: Mapping[int, Node], types: Mapping[str, Any], random: Random) -> Node:
    """A node of a random type whose inputs can be had from `nodes`."""
    by_kind: dict[str, list[Link]] = {}
    for number, node in nodes.items():
        for port, kind in node.returns.items():
            by_kind.setdefault(kind, []).append(Link(number, port))
    while True:
        node_type = types[random.choice(list(types))]
        inputs = {port: _input(kind, by_kind, random) for port, kind in node_type.takes.items()}
        if None in inputs.values():
            continue
        returns = dict(node_type.returns)
        for port, kind in returns.items():
            if kind == "same":
                (link,) = (input for input in inputs.values() if isinstance(input, Link))
                returns[port] = nodes[link.node].returns[link.port]
        return Node(type=node_type.name, inputs=inputs, returns=returns)  # type: ignore[arg-type]


def _input(kind: str, by_kind: Mapping[str, list[Link]], random: Random) -> Input | None:
    """An input of a kind; None if there is no node to link it to."""
    if kind == "small":
        return Literal(random.randrange(6))
    if kind == "size":
        return Literal(random.choices([1, 2, 3, 5, 80, 600], [10, 30, 30, 20, 3, 0.15])[0])
    if kind == "float literal":
        return Literal(random.choice(FLOATS))
    if kind == "file":
        return ReadFile(random.randrange(3))
    if kind.startswith("offered "):
        return Offered(kind.removeprefix("offered "), random.randrange(3))
    if kind.startswith("several "):
        items = [_input(kind.removeprefix("several "), by_kind, random) for _ in range(random.randint(1, 3))]
        return None if None in items else Several(tuple(items))  # type: ignore[arg-type]
    if kind == "int" and random.random() < 0.4:
        return Literal(random.randrange(6))
    if kind == "float" and random.random() < 0.4:
        return Literal(random.choice(FLOATS))
    links = [link for links in by_kind.values() for link in links] if kind == "any" else by_kind.get(kind, [])
    return random.choice(links[-12:]) if links else None


def _change_literal(nodes: dict[int, Node], random: Random) -> None:
    """Change one literal of one node, as a user does between two runs."""
    number = random.choice(sorted(nodes))
    node = nodes[number]
    literals = [port for port, input in node.inputs.items() if isinstance(input, Literal)]
    if literals and "size" not in literals:
        port = random.choice(literals)
        is_float = type(node.inputs[port][0]) is float
        value: Any = random.choice(FLOATS) if is_float else random.randrange(12)
        nodes[number] = replace(node, inputs={**node.inputs, port: Literal(value)})
