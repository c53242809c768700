"""Uses of composed nodes: what they are made of, and which values they stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, TypeAlias

from nodegraph.graph.graph import Awaited
from nodegraph.graph.overrides import InputValue
from nodegraph.light_dataclass import dataclass
from nodegraph.workflow.definitions import NodeDef
from nodegraph.workflow.subworkflows import Source

Given: TypeAlias = InputValue | Callable[[], InputValue | None]
"""A value in terms of the flat graph, or what returns it when it is needed: nodes may use each other's outputs in any order."""


@dataclass(kw_only=True, eq=False, slots=True)
class Scope:
    """A workflow at one place of its use. `owner` is the full name of the node that uses it, "" for the workflow itself.

    `received` are the values of its params, and `is_first` says that it is no later item or repetition, whose mistakes would be the
    same again. `waits` is what decides whether it exists, if that is not known. `uses` and `outputs` are what has been found.
    """

    source: Source
    owner: str
    prefix: str
    received: Mapping[str, Given]
    is_first: bool
    definition: NodeDef | None = None
    waits: tuple[Awaited, ...] = ()
    uses: dict[str, Use | None] = field(default_factory=dict)
    outputs: dict[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True, eq=False, slots=True)
class PlainItem:
    """A node of a plain type that `each` maps."""

    name: str
    received: Mapping[str, Given]


@dataclass(kw_only=True, eq=False, slots=True)
class WorkflowItem:
    """A sub-workflow, or the repetitions of one: its outputs are those of the last scope."""

    scopes: list[Scope]


@dataclass(kw_only=True, eq=False, slots=True)
class SwitchItem:
    """A `Switch`, which stands for a value."""

    value: Any


Item: TypeAlias = PlainItem | WorkflowItem | SwitchItem


@dataclass(kw_only=True, eq=False, slots=True)
class Use:
    """A composed node. With `each`, `is_list` is true, and there may be any number of items.

    If it is not known how many there are, the items are only examples, and `waits` is what decides that.
    """

    node: NodeDef
    name: str
    items: list[Item]
    is_list: bool
    waits: tuple[Awaited, ...] = ()
