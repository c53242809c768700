"""The graph that is written: nodes in API format, and what the values of our nodes are in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from nodegraph.plugin_api import ParamRef

Slot = list[Any]
"""A link in API format: the id of a node and the number of its output."""


class InexpressibleError(Exception):
    """A node that ComfyUI cannot express; the message says why."""


@dataclass(frozen=True, kw_only=True)
class UNet:
    """A UNet: the link to its MODEL, and the ControlNets and the picture that the prompts have to bring."""

    model: Slot
    controls: tuple[Mapping[str, Any], ...] = ()
    inpaint: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class Prompted:
    """A denoiser: the class of its guider, a UNet, prompts by the names of the guider's inputs, and its numbers."""

    guider: str
    unet: UNet
    prompts: Mapping[str, Slot]
    numbers: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Noised:
    """The noise to start from."""

    seed: Any
    draw: str


@dataclass(frozen=True, kw_only=True)
class Hidden:
    """A picture whose masked part is grey, or the mask that goes with it."""

    image: Slot
    mask: Slot
    grow: Any


@dataclass(frozen=True, kw_only=True)
class Latent:
    """A latent, and the mask that it brings."""

    slot: Slot
    mask: Any = None


@dataclass(eq=False)
class Written:
    """The graph so far: nodes by id, what our outputs are by node and port, and notes."""

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    values: dict[tuple[str, str | None], Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _known: dict[str, str] = field(default_factory=dict)

    def add(self, kind: str, title: str, **inputs: Any) -> str:
        """Add a node, unless there is one of the same class and inputs; returns its id."""
        key = repr((kind, sorted(inputs.items())))
        if key not in self._known:
            id = self._known[key] = str(len(self.nodes) + 1)
            self.nodes[id] = {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}
        return self._known[key]


@dataclass(eq=False)
class Export:
    """One of our nodes on the way out."""

    name: str
    inputs: Mapping[str, Any]
    written: Written

    def __getitem__(self, name: str) -> Any:
        """A value. Raises InexpressibleError if it is a link."""
        value = self.inputs.get(name)
        if hasattr(value, "node") or isinstance(value, ParamRef):
            raise InexpressibleError(f"'{name}' comes from another node; expected a value")
        return value

    def linked(self, name: str) -> Any:
        """What is linked to an input. Raises InexpressibleError if that was not written."""
        link = self.inputs[name]
        found = self.written.values.get((link.node, link.port))
        if found is None:
            raise InexpressibleError(f"'{name}' comes from node '{link.node}', which is not written")
        return found

    def slot(self, name: str) -> Slot:
        """The link to an input whose type is one link in ComfyUI, too."""
        found = self.linked(name)
        if isinstance(found, Latent):
            return found.slot
        if not isinstance(found, list):
            raise InexpressibleError(f"'{name}' is something that ComfyUI only has inside its nodes")
        return found

    def unet(self, name: str = "unet") -> UNet:
        """A UNet."""
        found = self.linked(name)
        return found if isinstance(found, UNet) else UNet(model=found)

    def require(self, **values: Any) -> None:
        """Raise InexpressibleError for an input that does not have the only value that ComfyUI knows."""
        for name, value in values.items():
            if self[name] != value:
                raise InexpressibleError(f"'{name}' is {self[name]!r}; ComfyUI only has {value!r}")

    def add(self, kind: str, title: str | None = None, /, **inputs: Any) -> str:
        """Add a node; returns its id."""
        return self.written.add(kind, title or self.name, **inputs)

    def give(self, **ports: Any) -> None:
        """Say what the outputs of this node are, by their ports."""
        for port, value in ports.items():
            self.written.values[(self.name, port)] = value

    def note(self, message: str) -> None:
        """Tell the user something about this node."""
        self.written.notes.append(f"node '{self.name}': {message}")


def with_model(unet: UNet, model: Slot) -> UNet:
    """A UNet whose MODEL is another one."""
    return dataclasses.replace(unet, model=model)
