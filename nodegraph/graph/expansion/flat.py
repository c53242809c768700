"""What is left of a workflow once everything that stands for other nodes is written out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from nodegraph.errors import Location
from nodegraph.graph.graph import Awaited, Limit
from nodegraph.graph.overrides import InputValue
from nodegraph.light_dataclass import dataclass
from nodegraph.workflow.definitions import Document, NodeDef, ParamDef, Wrapped


@dataclass(frozen=True, eq=False)
class Chosen(Wrapped):
    """What a `Switch` stands for: the value of the chosen case. `others` are those of the other cases, which are only checked."""

    value: Any
    others: tuple[Any, ...]

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, eq=False)
class Unknown(Wrapped):
    """An example of a value that is not known before what it `waits` for is."""

    value: Any
    waits: tuple[Awaited, ...]

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, eq=False)
class Limited(Wrapped):
    """A linked value that a param with a range receives. `outer`: one of another param, through which the value came."""

    value: Any
    limit: Limit
    outer: Limited | None = None

    def limits(self) -> Iterator[Limit]:
        """All ranges that the value has to be in."""
        limited: Limited | None = self
        while limited is not None:
            yield limited.limit
            limited = limited.outer

    def __repr__(self) -> str:
        return repr(self.value)


@dataclass(frozen=True, kw_only=True)
class Decider:
    """A value that decides what the workflow stands for: the length of a list, or what is at `on`. `user` needs it."""

    awaited: Awaited
    user: str
    where: Location | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Border:
    """A linked value that a typed param of a sub-workflow receives, to be checked against that type."""

    node: NodeDef
    param: ParamDef
    value: InputValue


class FlatDocument(Document):
    """Plain nodes, under their full names. References in them name nodes and params of this document.

    Params of sub-workflows are called `node.param`, as `--set` calls them; `bound` holds their values. `aliases` are pairs of such
    a param and the one that it takes its value from. Relative paths in a node start from its folder in `bases`. `outputs_of` holds
    the values of outputs that come from composed nodes. `borders`, `switches` and `unused` (nodes that map an empty list) have to
    be checked although nothing may use them. `changed` are the values of inputs of composed nodes that were given from outside.
    `deciders` are values that are not known and decide what the workflow stands for; `undecided` are the nodes that are examples of
    what that may be, with what they wait for.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.bound: dict[str, InputValue] = {}
        self.aliases: list[tuple[str, str]] = []
        self.bases: dict[str, Path] = {}
        self.borders: list[Border] = []
        self.outputs_of: dict[str, Any] = {}
        self.switches: list[tuple[NodeDef, Chosen]] = []
        self.unused: list[NodeDef] = []
        self.changed: dict[tuple[str, str], Any] = {}
        self.deciders: dict[Awaited, Decider] = {}
        self.undecided: dict[str, tuple[Awaited, ...]] = {}


def location(node: NodeDef, input: str) -> Location | None:
    """Where an input was written, also one that is an entry of `each`."""
    return node.location(input) if input in node.locations else node.location("each")


def is_chosen(value: Any) -> bool:
    """Whether a value is what a `Switch` stands for."""
    while isinstance(value, Wrapped) and not isinstance(value, Chosen):
        value = value.value
    return isinstance(value, Chosen)
