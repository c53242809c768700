"""The checked, typed graph that `nodegraph.graph.build` makes of a workflow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import KW_ONLY, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from nodegraph.errors import Location
from nodegraph.files import FileState
from nodegraph.light_dataclass import dataclass
from nodegraph.node_types.spec import NodeSpec, Range
from nodegraph.plugins.registry import Entry, Origin
from nodegraph.text import described
from nodegraph.workflow.definitions import Link, NodeDef
from nodegraph.workflow.workflow import Workflow


@dataclass(frozen=True, repr=False)
class Value:
    """A literal converted to its port's type: `value` is what the function receives.

    `files`: the files that it names, by names that do not depend on their folder. `states`: their states once it was read. `text`:
    what it was given as, if its key depends on more than the files.
    `entry`: the registered thing that it names. `digest`: its codec's digest, for a value of a stored type that was given in
    Python. `not_fetched`: what a run has to fetch first; until then, `value` is None and nothing is known about it. `notes`: what
    the user should know about its files. `address`: the text that names its files, whose relative paths start from `base`.
    """

    value: Any
    _: KW_ONLY
    files: Mapping[str, Path] | None = None
    states: Mapping[Path, FileState | None] | None = None
    text: str | None = None
    entry: Entry[Any] | None = None
    digest: str | None = None
    not_fetched: str | None = None
    notes: tuple[str, ...] = ()
    address: str | None = None
    base: Path | None = None

    def __repr__(self) -> str:
        return f"<Value {described(self.value)}>"


@dataclass(frozen=True)
class InputNote:
    """What the user should know about the files of an input."""

    node: str
    input: str
    message: str


@dataclass(frozen=True)
class NotFetched:
    """An input whose files are not on this machine yet. `message` says what a run will fetch, and how."""

    node: str
    input: str
    message: str


@dataclass(frozen=True)
class ResolvedLink:
    """A link whose port is known."""

    node: str
    port: str


@dataclass(frozen=True)
class ListWithLinks:
    """A list with links in it."""

    items: tuple[Input, ...]


Input = Value | ResolvedLink | ListWithLinks


class Limit(NamedTuple):
    """A range that a linked value has to be in, and the param that declares it."""

    range: Range
    source: str


@dataclass(frozen=True, kw_only=True, repr=False)
class GraphNode:
    """A node with a value for every input: a literal, a default or a link.

    `limits` are the ranges of the params of sub-workflows through which values come, by input. `takes` says how long it takes, in
    words, if the workflow does.
    """

    name: str
    spec: NodeSpec
    origin: Origin
    inputs: Mapping[str, Input]
    where: Location | None = None
    limits: tuple[tuple[str, Limit], ...] = ()
    takes: str = ""

    def __repr__(self) -> str:
        return f"<GraphNode {self.name}: {self.spec.name}>"

    def links(self) -> tuple[ResolvedLink, ...]:
        """The links that feed this node, in the order of its inputs."""
        return self._links

    @cached_property
    def sources(self) -> tuple[str, ...]:
        """The nodes that feed this node, each once."""
        return tuple(dict.fromkeys(link.node for link in self._links))

    @cached_property
    def _links(self) -> tuple[ResolvedLink, ...]:
        links = []
        pending: list[Input] = [*self.inputs.values()][::-1]
        while pending:
            input = pending.pop()
            if isinstance(input, ResolvedLink):
                links.append(input)
            elif isinstance(input, ListWithLinks):
                pending.extend(reversed(input.items))
        return tuple(links)


@dataclass(frozen=True, kw_only=True)
class Output:
    """A wanted result: an output of a node, the template of the file name it is saved under, and options of the file format.

    If the output of the workflow is a list, each item is one of these, with its `index`.
    """

    name: str
    link: ResolvedLink
    save: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    where: Location | None = None
    index: int | None = None

    @property
    def full_name(self) -> str:
        """The name, and the index in a list."""
        return self.name if self.index is None else f"{self.name}[{self.index}]"


class ValueOrigins(Protocol):
    """Where the values of a graph came from (`nodegraph.graph.origins`)."""

    def of_param(self, name: str) -> str:
        """The origin of the value of a param."""

    def of_input(self, node: str, input: str) -> str:
        """The origin of what an input of a node receives."""


class ComposedNodes(Protocol):
    """What the names of composed nodes mean (`nodegraph.graph.composed`)."""

    @property
    def nodes(self) -> Mapping[str, NodeDef]:
        """The definitions of all nodes, in terms of the graph."""

    def links(self, name: str) -> Any:
        """The outputs that `node` or `node.port` stands for: one, or a list for each `each`. None if it stands for none."""

    def inside(self, name: str) -> list[str]:
        """The nodes that the name of a composed node means, and those inside it."""

    def embedded(self, workflow: Workflow, paths: Callable[[Path], Mapping[str, str]]) -> Workflow:
        """`workflow` with its sub-workflows inside (`nodegraph.graph.expansion.embedded`)."""

    def folders(self) -> set[Path]:
        """The folders that relative paths in the sub-workflows start from."""


class Awaited(NamedTuple):
    """What has to be known before the graph is: the value that a link leads to, or only the length of this list."""

    link: Link
    is_length: bool


@dataclass(frozen=True, kw_only=True, eq=False)
class Decision:
    """A value that decides the graph: the length of a list, or which case of a `Switch` is chosen.

    `source` is the output that the link leads to. `user` says what needs the value.
    """

    awaited: Awaited
    source: ResolvedLink
    user: str
    where: Location | None = None

    @property
    def reason(self) -> str:
        """Why what follows is not known."""
        value = f"{self.source.node}.{self.source.port}"
        return f"it depends on {'the length' if self.awaited.is_length else 'the value'} of '{value}', which is not known yet"


@dataclass(frozen=True, kw_only=True, eq=False)
class Undecided:
    """The part of a graph that is not known yet. The graph has an example of it, so that it can be checked.

    `nodes` are the nodes of that part, and `outputs` the outputs that depend on it, each with the decisions that it waits for.
    `decide` builds the graph again with values for some of these: a length, or what is at `on`.
    """

    decisions: Mapping[Awaited, Decision]
    nodes: Mapping[str, tuple[Awaited, ...]]
    outputs: Mapping[str, tuple[Awaited, ...]]
    decide: Callable[[Mapping[Awaited, Any]], Graph]

    def reason(self, node: str) -> str:
        """Why it is not known whether a node exists, or what it receives."""
        return self.decisions[self.nodes[node][0]].reason


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Graph:
    """A workflow that has been checked: `nodes` in topological order, each after the nodes that feed it.

    `params` have their final values. `resolved` is the workflow with every override and drawn seed written into it. `seeds` are
    those that were drawn, by "param" or "node.input". `outputs` has each item of a list as one output, and `lists` the links of all
    items by the output's name. `composed` knows what the names of composed nodes stand for; None if the workflow has none.
    `origins` returns what knows where each value came from. `undecided` is the part that is not known before a run; None if all is.
    """

    workflow: str
    nodes: Mapping[str, GraphNode]
    outputs: Mapping[str, Output]
    params: Mapping[str, Any]
    resolved: Workflow
    seeds: Mapping[str, int] = field(default_factory=dict)
    lists: Mapping[str, list[Any]] = field(default_factory=dict)
    composed: ComposedNodes | None = None
    origins: Callable[[], ValueOrigins] | None = None
    undecided: Undecided | None = None
    _consumers: Mapping[str, list[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        consumers: dict[str, list[str]] = {name: [] for name in self.nodes}
        for node in self.nodes.values():
            for source in node.sources:
                consumers[source].append(node.name)
        object.__setattr__(self, "_consumers", consumers)

    @cached_property
    def not_fetched(self) -> tuple[NotFetched, ...]:
        """The inputs whose files a run has to fetch first. A run's own graph has none."""
        return tuple(
            NotFetched(node, port, value.not_fetched) for node, port, value in self._values() if value.not_fetched is not None
        )

    @property
    def notes(self) -> tuple[InputNote, ...]:
        """What the user should know about the files that the nodes read, such as what in them is ignored."""
        return tuple(InputNote(node, port, note) for node, port, value in self._values() for note in value.notes)

    def read_values(self) -> Iterator[Value]:
        """The values that name files, also those inside lists."""
        pending: list[Input] = [input for node in self.nodes.values() for input in node.inputs.values()]
        while pending:
            input = pending.pop()
            if isinstance(input, ListWithLinks):
                pending.extend(input.items)
            elif isinstance(input, Value) and input.address is not None:
                yield input

    def _values(self) -> Iterator[tuple[str, str, Value]]:
        for node in self.nodes.values():
            for port, input in node.inputs.items():
                if isinstance(input, Value):
                    yield node.name, port, input

    def __repr__(self) -> str:
        return f"<Graph of {self.workflow}: nodes {', '.join(self.nodes)}; outputs {', '.join(self.outputs)}>"

    def consumers(self, name: str) -> list[str]:
        """The nodes that take an output of `name`."""
        return self._consumers[name]
