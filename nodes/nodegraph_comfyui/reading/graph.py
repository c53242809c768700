"""A ComfyUI graph as plain data: what it would run, without anything that only its editor needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final

from nodegraph.plugin_api import Problem, dataclass
from nodegraph_comfyui.reading.groups import Group

CODE: Final = "E122"
MOST_NODES: Final = 10_000


@dataclass(frozen=True)
class Wire:
    """A link: the output number `slot` of a node."""

    node: str
    slot: int


@dataclass(frozen=True)
class Shared:
    """The value of a primitive node, which may feed several inputs. `name` is its title, if a user gave it one."""

    value: Any
    node: str
    name: str


@dataclass(frozen=True)
class Muted:
    """What an input receives from a node that is turned off."""

    node: str


@dataclass(frozen=True, kw_only=True, eq=False)
class ComfyNode:
    """A node that would run. `kind` is its class, `title` what a user called it, or "".

    `inputs` holds values, `Wire`, `Shared` and `Muted`. `widgets` are values whose inputs are not known, because the class is not.
    `level` names the subgraphs that it is inside, outermost first.
    """

    id: str
    kind: str
    title: str = ""
    inputs: Mapping[str, Any]
    widgets: tuple[Any, ...] = ()
    level: tuple[str, ...] = ()
    output_types: tuple[str, ...] = ()

    def __str__(self) -> str:
        title = f" '{shortened(self.title)}'" if self.title and self.title != self.kind else ""
        return f"node {shortened(self.id)}{title} ({shortened(self.kind)})"


@dataclass(frozen=True, kw_only=True)
class ComfyGraph:
    """A graph: nodes by id, the names of its subgraphs by their level, the texts of its notes, and its groups."""

    nodes: Mapping[str, ComfyNode]
    subgraphs: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    groups: tuple[Group, ...] = ()


@dataclass(frozen=True)
class Widget:
    """An input of a class that holds a value. `control`: what to do with it after a run follows it in lists of values."""

    name: str
    control: bool = False


def problem(message: str, hint: str = "") -> Problem:
    """A mistake in a graph."""
    return Problem(CODE, message, None, hint)


def shortened(text: str) -> str:
    """Text from a file for a message."""
    return text if len(text) <= 60 else f"{text[:57]}..."


def shown(value: Any) -> str:
    """A value from a file for a message, which may be deep."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "a mapping"
    return shortened(repr(value)) if not isinstance(value, int) or abs(value) < 1 << 200 else "a huge number"
