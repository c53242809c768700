"""What is known about a class of ComfyUI's nodes: its inputs in their order, its outputs, and how it becomes nodes here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from functools import cached_property
from typing import Any, Final, TypeAlias

from nodegraph.plugin_api import dataclass
from nodegraph_comfyui.building.call import Call
from nodegraph_comfyui.reading.graph import Widget

_VALUES: Final = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")

Convert: TypeAlias = Callable[[Call], Any]
"""Returns the value of the only output, a tuple of the values of several, or None."""


@dataclass(frozen=True)
class ClassInput:
    """An input: a value, or a link of the type `kind`. `control`: what to do with the value after a run is stored behind it.

    In a renaming, `here` is the input of our node that takes it, and `folder` ComfyUI's folder of the file that it names.
    """

    name: str
    kind: str
    default: Any = None
    here: str = ""
    folder: str = ""
    optional: bool = False
    control: bool = False

    @property
    def is_value(self) -> bool:
        return self.kind in _VALUES


@dataclass(frozen=True, kw_only=True)
class Renaming:
    """How a class is one node here: the type and the name of that, and the port and the kind of each output.

    `values` are our values for ComfyUI's, by its inputs, `always` the inputs that only our node has, and `note` is for the user.
    """

    type: str
    name: str
    outputs: tuple[tuple[str | None, str], ...]
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    always: Mapping[str, Any] = field(default_factory=dict)
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class NodeClass:
    """A class of ComfyUI's core nodes.

    `inputs` is written as `name:TYPE`, separated by spaces, in ComfyUI's order: `=` gives a default, `?` marks an optional link and
    `!` a seed; in a renaming, `@` gives the folder of a file, and `>` the name of the input here, or `-` if there is none.
    `here` are the node types that it becomes, `renamed` and `differs` explain that to people. `is_end`: the graph ends there.
    """

    name: str
    title: str
    inputs: str
    outputs: tuple[str, ...] = ()
    convert: Convert
    here: tuple[str, ...] = ()
    renamed: str = ""
    differs: str = ""
    is_end: bool = False
    is_loader: bool = False
    renaming: Renaming | None = None

    @cached_property
    def known(self) -> dict[str, ClassInput]:
        """The inputs by name, in ComfyUI's order."""
        return read_inputs(self.inputs)

    @property
    def widgets(self) -> Sequence[Widget]:
        """The values in the order of the editor's lists."""
        return [Widget(found.name, found.control) for found in self.known.values() if found.is_value]


def read_inputs(text: str) -> dict[str, ClassInput]:
    """The inputs that are written as in NodeClass, by name."""
    return {found.name: found for found in map(_read, text.split())}


def _read(text: str) -> ClassInput:
    text, _, here = text.partition(">")
    name, _, rest = text.partition(":")
    kind, has_default, default = rest.partition("=")
    kind, _, folder = kind.partition("@")
    control, optional = kind.endswith("!"), kind.endswith("?")
    kind = kind.rstrip("!?")
    return ClassInput(
        name,
        kind,
        _default(kind, default) if has_default else None,
        here="" if here == "-" else here or name,
        folder=folder,
        optional=optional,
        control=control,
    )


def _default(kind: str, text: str) -> Any:
    if kind == "INT":
        return int(text)
    if kind == "FLOAT":
        return float(text)
    return text == "true" if kind == "BOOLEAN" else text
