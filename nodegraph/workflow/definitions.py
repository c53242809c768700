"""What a workflow consists of: links, references to params, and the definitions of params, nodes and outputs.

Nothing is checked here; `nodegraph.graph` does that.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, field
from typing import Any, Final

from nodegraph.errors import Location
from nodegraph.light_dataclass import dataclass
from nodegraph.text import described

FORMAT: Final = 1
"""The version of the file format."""

NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")
"""A valid name of a node, param or output."""

NAME_RULE: Final = "Names are letters, digits, '_' and '-', and begin with a letter or '_'."

PARAMS: Final = "params"
"""The name that no node can have: `$params.x` is a param."""

TAKES: Final = "takes"
"""An entry of a node that is no input: how long it takes, in words. It is said before a run that has to do it."""

EACH: Final = "each"
REPEAT: Final = "repeat"
RESERVED_INPUTS: Final = (EACH, REPEAT)
"""Entries of a node that are no inputs of its type: they say how often it is used."""

SWITCH: Final = "Switch"
"""What a node uses that stands for one of several values."""

PARAM_TYPES: Final[Mapping[str, type]] = {"text": str, "int": int, "float": float, "bool": bool, "path": str, "seed": int}
"""The words for a param's type, and the type of its values."""


_TYPE: Final = re.compile(r"(?:list\[)*([A-Za-z_][A-Za-z0-9_]*)\]*")


def is_type_text(text: Any) -> bool:
    """Whether text may be a param's type: a word, the name of a class (which begins with a capital), or `list[...]` of one."""
    found = _TYPE.fullmatch(text) if isinstance(text, str) else None
    if found is None or text.count("[") != text.count("]"):
        return False
    return found[1] in PARAM_TYPES or found[1][0].isupper()


@dataclass(frozen=True, repr=False)
class Link:
    """A reference to another node's output: `$node` or `$node.port`."""

    node: str
    port: str | None = None

    def __repr__(self) -> str:
        dot = "" if not self.port or self.port.startswith("[") else "."  # `[2]` is an item of the only output
        return f"${self.node}{dot}{self.port or ''}"


@dataclass(frozen=True, repr=False)
class ParamRef:
    """A reference to a param of the workflow: `$params.name`."""

    name: str

    def __repr__(self) -> str:
        return f"$params.{self.name}"


class Wrapped:
    """A value with something to remember about it, such as where it was written. Only graphs have them, no files."""

    value: Any


def references(value: Any) -> Iterator[Link | ParamRef]:
    """The references in a value, through lists and mappings."""
    pending = [value]
    while pending:
        part = pending.pop()
        if isinstance(part, Link | ParamRef):
            yield part
        elif isinstance(part, list):
            pending.extend(reversed(part))
        elif isinstance(part, dict):
            pending.extend(reversed(part.values()))
        elif isinstance(part, Wrapped):
            pending.append(part.value)


def has_wrapped(value: Any) -> bool:
    """Whether something in a list or mapping is wrapped."""
    if isinstance(value, list | dict):
        return any(map(has_wrapped, value.values() if isinstance(value, dict) else value))
    return isinstance(value, Wrapped)


def unwrapped(value: Any) -> Any:
    """A value without what is remembered about it."""
    while isinstance(value, Wrapped):
        value = value.value
    if isinstance(value, list):
        return [unwrapped(item) for item in value]
    return {key: unwrapped(item) for key, item in value.items()} if isinstance(value, dict) else value


def is_workflow(use: str) -> bool:
    """Whether what a node uses is a workflow: a file, or `#name` for one of the same file."""
    return use.startswith(("#", "./", "../", "/"))


def is_composed(node: NodeDef) -> bool:
    """Whether a node stands for other nodes: a sub-workflow, `each`, `repeat`, or a `Switch`."""
    return node.type[0:1] in ("#", ".", "/") or node.type == SWITCH or EACH in node.inputs or REPEAT in node.inputs


@dataclass(frozen=True, kw_only=True)
class ParamDef:
    """A param: its default, and optionally its type, range and help. With `type` None it has the type of the inputs it feeds."""

    name: str
    default: Any
    type: str | None = None
    min: float | None = None
    max: float | None = None
    help: str = ""
    where: Location | None = None


@dataclass(frozen=True, repr=False)
class NodeDef:
    """A node: its type, the values of its inputs, and where each was written. `takes` says how long it takes, in words."""

    name: str
    type: str
    inputs: Mapping[str, Any]
    _: KW_ONLY
    where: Location | None = None
    takes: str = ""
    locations: Mapping[str, tuple[Location, Location]] = field(default_factory=dict)
    """For each input, and for `use`: where its key and its value were written."""

    def __repr__(self) -> str:
        return f"<NodeDef {self.name}: {self.type}({', '.join(self.inputs)})>"

    def location(self, input: str, *, key: bool = False) -> Location | None:
        """Where the value of `input` was written, or its key."""
        of_key, of_value = self.locations.get(input, (self.where, self.where))
        return of_key if key else of_value


@dataclass(frozen=True)
class OutputDef:
    """An output of the workflow: its link, the template of the file name it is saved under, and options of the file format."""

    name: str
    link: Link
    save: str | None = None
    where: Location | None = None
    options: Mapping[str, Any] = field(default_factory=dict)


def read_save(save: Any) -> tuple[str | None, dict[str, Any]]:
    """The file name and the options in a `save` as a workflow writes it: text, or a mapping with `file`. Raises ValueError."""
    options = dict(save) if isinstance(save, dict) else {}
    file = options.pop("file", None) if isinstance(save, dict) else save
    if not isinstance(file, str | None) or (isinstance(save, dict) and file is None):
        raise ValueError(f"must be a file name, or a mapping with the name as 'file', not {described(save)}")
    return file, options


def written_save(save: str | None, options: Mapping[str, Any]) -> str | dict[str, Any] | None:
    """`save` as a workflow writes it: text, or a mapping if there are options."""
    return {"file": save, **options} if options else save


@dataclass(eq=False)
class Document:
    """The content of a workflow file, or of one of the workflows inside it.

    `unread`: names of params, nodes and outputs that could not be read, so that references to them are no further mistakes.
    `workflows` are used as `#name`. `sweep` is what the file says about sweeps, with its location. `values` are those of nodes
    inside sub-workflows, under the names that `--set` takes. `folder` is where relative paths in a workflow inside a file start,
    relative to the folder of the file; "" for that folder itself.
    """

    name: str = "workflow"
    description: str = ""
    params: dict[str, ParamDef] = field(default_factory=dict)
    nodes: dict[str, NodeDef] = field(default_factory=dict)
    outputs: dict[str, OutputDef] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    workflows: dict[str, Document] = field(default_factory=dict)
    sweep: Any = None
    values: dict[str, Any] = field(default_factory=dict)
    folder: str = ""
