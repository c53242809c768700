"""What the conversion of one ComfyUI node sees: its inputs, and the workflow that it adds steps to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Final, Protocol, TypeVar

from nodegraph.plugin_api import dataclass
from nodegraph_comfyui.building.steps import EACH, Ref, Setting, Step, Steps, Wanted
from nodegraph_comfyui.building.values import Refused, Value
from nodegraph_comfyui.reading.graph import ComfyNode, Muted, Shared, Wire, shortened, shown
from nodegraph_comfyui.reading.numbers import is_usable

T = TypeVar("T")

_KINDS: Final[Mapping[str, tuple[type, ...]]] = {
    "INT": (int,),
    "FLOAT": (int, float),
    "STRING": (str,),
    "BOOLEAN": (bool,),
    "COMBO": (str,),
}


MOST_STEPS: Final = 100_000


class RefusedError(Exception):
    """A node that cannot be imported; the message says why, without naming the node."""


class UnavailableError(Exception):
    """A node whose input comes from a node that was not imported, or that is turned off."""


class Input(Protocol):
    """What is known about an input of a class."""

    @property
    def kind(self) -> str: ...
    @property
    def default(self) -> Any: ...
    @property
    def optional(self) -> bool: ...
    @property
    def is_value(self) -> bool: ...


@dataclass(eq=False)
class Converted:
    """What has been made of a graph so far: the values of outputs by node and slot, steps, and notes."""

    steps: Steps
    values: dict[tuple[str, int], Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    vaes: dict[str, Ref] = field(default_factory=dict)
    """The VAE that goes with each node that makes an empty latent."""
    files: list[tuple[ComfyNode, str, str]] = field(default_factory=list)
    """The files that nodes name: the node, ComfyUI's folder for them, and the name."""


@dataclass(eq=False)
class Call:
    """The inputs of a node, by name, and the workflow that is made."""

    node: ComfyNode
    inputs: Mapping[str, Input]
    title: str
    converted: Converted

    # --- values of inputs

    def __getitem__(self, name: str) -> Any:
        """The value of an input, or the setting that it comes from. Raises RefusedError if it is not of its type."""
        found = self._raw(name)
        value = found.value if isinstance(found, Shared | Setting) else found
        self._check(name, value)
        if isinstance(found, Shared):
            return Setting(found.name or name, found.value, found.node, found.name)
        return found

    def literal(self, name: str) -> Any:
        """The value of an input itself, also if it comes from a setting."""
        value = self[name]
        return value.value if isinstance(value, Setting) else value

    def setting(self, name: str, param: str | None = None) -> Any:
        """The value of an input as one that people change, under the name `param`."""
        value = self[name]
        return value if isinstance(value, Setting | Ref) else Setting(param or name, value, self.node.id)

    def choice(self, name: str, meanings: Mapping[str, T]) -> T:
        """What the value of an input means. Raises RefusedError for a value without a meaning here."""
        value = self.literal(name)
        if value not in meanings:
            raise RefusedError(f"'{name}' is {shown(value)}, which does not exist here; there is {', '.join(meanings)}")
        return meanings[value]

    def get(self, name: str, kind: type[T]) -> T:
        """What is linked to an input. Raises RefusedError if nothing is, or something of another type."""
        value = self.optional(name, kind)
        if value is None:
            raise RefusedError(f"'{name}' is not connected")
        return value

    def optional(self, name: str, kind: type[T]) -> T | None:
        """The same for an input that may be left unconnected."""
        found = self.node.inputs.get(name)
        if isinstance(found, Muted):
            raise UnavailableError
        if not isinstance(found, Wire):
            return None
        value = self._linked(found)
        if not isinstance(value, kind) or (isinstance(value, Value) and value.kind != self._kind(name)):
            raise RefusedError(
                f"'{name}' takes {self._kind(name)}, and comes from node {shortened(found.node)}, which makes another thing"
            )
        return value

    def link(self, name: str) -> Ref:
        """The link to an input whose type is one link here, such as IMAGE."""
        return self.get(name, Value).link

    def step(self, ref: Ref) -> Step:
        """The step that a link comes from."""
        return self.converted.steps.steps[ref.step]

    def has(self, name: str) -> bool:
        """Whether something is linked to an input."""
        return isinstance(self.node.inputs.get(name), Wire | Muted)

    def _raw(self, name: str) -> Any:
        raw = self.node.inputs.get(name, self.inputs[name].default)
        if isinstance(raw, Muted):
            raise UnavailableError
        found = self._linked(raw) if isinstance(raw, Wire) else raw
        if isinstance(found, Wire | Value) or not isinstance(found, Setting | Shared | str | int | float | list | dict | None):
            raise RefusedError(f"'{name}' comes from another node, and is not known before that has run")
        if found is None:
            raise RefusedError(f"'{name}' has no value")
        return found

    def _linked(self, link: Wire) -> Any:
        key = (link.node, link.slot)
        if key not in self.converted.values:
            raise UnavailableError
        value = self.converted.values[key]
        if isinstance(value, Refused):
            raise RefusedError(value.why)
        return value

    def _check(self, name: str, value: Any) -> None:
        kind = self.inputs[name].kind
        types = _KINDS.get(kind, (object,))
        if isinstance(value, float) and kind == "INT" and value.is_integer():
            return
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types) or not is_usable(value):
            expected = {"INT": "a whole number", "FLOAT": "a number", "BOOLEAN": "true or false"}.get(kind, "text")
            raise RefusedError(f"'{name}' is {shown(value)}; expected {expected}")

    def _kind(self, name: str) -> str:
        return self.inputs[name].kind

    # --- what is made

    def add(self, type: str, name: str, **inputs: Any) -> Ref:
        """Add a node called `name`, or by the title of the ComfyUI node. A name with `_` in front follows the title."""
        return self._add(type, name, self._mapped(inputs))

    def add_list(self, type: str, name: str, **inputs: Any) -> Ref:
        """The same for a node that makes a list, and that takes lists as they are."""
        return self._add(type, name, inputs, makes_list=True)

    def _mapped(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs of a node that runs once for each item of the lists among them, as in ComfyUI."""
        steps = self.converted.steps
        if any(steps.is_list(part) for value in inputs.values() if isinstance(value, list) for part in value):
            raise RefusedError("it joins what comes out of a list, one by one, which does not exist here")
        lists = {**inputs.get(EACH, {}), **{name: value for name, value in inputs.items() if steps.is_list(value)}}
        others = {name: value for name, value in inputs.items() if name not in lists and name != EACH}
        return {**others, EACH: lists} if lists else others

    def _add(self, type: str, name: str, inputs: Mapping[str, Any], *, makes_list: bool = False) -> Ref:
        titled = slug(self.title)
        own = titled if titled and not name.startswith("_") else name.lstrip("_")
        if titled and name.startswith("_"):
            own = f"{titled}{name}"
        present = {key: value for key, value in inputs.items() if value is not None}
        if len(self.converted.steps.steps) >= MOST_STEPS:
            raise RefusedError(f"the workflow would have more than {MOST_STEPS:,} nodes")
        step = Step(type, present, own, level=self.node.level, title=titled, origin=self.node.id, makes_list=makes_list)
        return self.converted.steps.add(step)

    def output(self, name: str, ref: Ref, save: str | None) -> None:
        """Add an output of the workflow."""
        self.converted.steps.outputs.append(Wanted(slug(self.title) or name, ref, save))

    def note(self, message: str) -> None:
        """Tell the user something about this node."""
        self.converted.notes.append(f"{self.node}: {message}")

    def file(self, name: str, folder: str, param: str) -> Setting:
        """A file that an input names, in ComfyUI's subfolder `folder`; separated by `/` on every system."""
        value = self.setting(name, param)
        text = file_name(value.value)
        self.converted.files.append((self.node, folder, text))
        return Setting(value.name, text, value.owner, value.title)


def file_name(text: str) -> str:
    """The name of a file in one of ComfyUI's folders. Raises RefusedError if it leads out of it."""
    name = text.replace("\\", "/")
    if name.startswith(("/", "~")) or re.match(r"[A-Za-z]:", name) or ".." in name.split("/") or "\0" in name or "://" in name:
        raise RefusedError(f"{shown(text)} leads out of ComfyUI's folders. Expected the name of a file inside")
    if not name.strip():
        raise RefusedError("the name of a file is empty")
    return name


def slug(title: str) -> str:
    """A title as a name in a workflow; "" if it has too few letters for one."""
    name = re.sub(r"[^a-z0-9]+", "_", title.lower()).strip("_")[:40].rstrip("_")
    return "" if len(name) < 2 or name[0].isdigit() or name == "params" else name
