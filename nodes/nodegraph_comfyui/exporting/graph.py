"""The graph that is written: nodes in API format, and what the values of our nodes are in it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import field
from typing import Any, TypeAlias

from nodegraph.plugin_api import Link, ParamRef, dataclass

Slot = list[Any]
"""A link in API format: the id of a node and the number of its output."""


class InexpressibleError(Exception):
    """A node that ComfyUI cannot express; the message says why."""


@dataclass(frozen=True, kw_only=True)
class UNet:
    """A UNet: the link to its MODEL, and what the prompts have to bring: classes of nodes with their inputs."""

    model: Slot
    guides: tuple[tuple[str, Mapping[str, Any]], ...] = ()


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
    """A latent, the mask that it brings, and the VAE and the picture that it was encoded from, unless it was changed."""

    slot: Slot
    mask: Any = None
    source: tuple[Slot, Slot] | None = None


@dataclass(frozen=True)
class Zeros:
    """A latent of zeros with the size of one that was encoded from a VAE and a picture."""

    source: tuple[Slot, Slot]


@dataclass(frozen=True, kw_only=True)
class Text:
    """A prompt that is a node of its own only without the sizes that SDXL is conditioned on. `name` is that of our node."""

    name: str
    clip: Slot
    text: Any
    text_2: Any = None


@dataclass(eq=False)
class Written:
    """The graph so far: nodes by id, what our outputs are by node and port, and notes."""

    nodes: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: dict[str, frozenset[Any]] = field(default_factory=dict)
    """The seeds that our nodes expect of the samplers that they feed."""
    zeros: dict[str, Slot] = field(default_factory=dict)
    """Latents of zeros that classes for pictures make, by what their pictures are."""
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

    @property
    def seeds(self) -> frozenset[Any]:
        """The seeds that what is linked to this node expects of the samplers that it feeds."""
        links = (link for value in self.inputs.values() for link in links_in(value))
        return frozenset[Any]().union(*(self.written.seeds.get(link.node, ()) for link in links))

    def __getitem__(self, name: str) -> Any:
        """A value. Raises InexpressibleError if it is a link."""
        value = self.inputs.get(name)
        if isinstance(value, Link | ParamRef):
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
        if isinstance(found, Text):
            if found.text_2 is not None:
                raise InexpressibleError(f"node '{found.name}' has two texts; ComfyUI takes them with sizes: add SizeCondition")
            return [self.written.add("CLIPTextEncode", found.name, text=found.text, clip=found.clip), 0]
        if not isinstance(found, list):
            raise InexpressibleError(f"'{name}' is something that ComfyUI only has inside its nodes")
        return found

    def latent(self, name: str = "latent") -> Latent:
        """A latent."""
        found = self.linked(name)
        if not isinstance(found, Latent):
            raise InexpressibleError(f"'{name}' is a latent that ComfyUI only has for its sampler")
        return found

    def give_latent(self, kind: str, like: Latent, **inputs: Any) -> None:
        """Add a node, and say that our output is its latent, with the mask of another one."""
        self.give(output=Latent(slot=[self.add(kind, **inputs), 0], mask=like.mask))

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


def links_in(value: Any) -> list[Link]:
    """The links in the value of an input."""
    return [part for part in (value if isinstance(value, list) else [value]) if isinstance(part, Link)]


Write: TypeAlias = Callable[[Export], None]
"""Writes one of our nodes."""


def method_name(node: Export) -> str:
    """ComfyUI's name of a method of resizing."""
    method = str(node["method"])
    return "nearest-exact" if method == "nearest" else method


def sides(node: Export) -> dict[str, Any]:
    """The size to resize to, and whether to crop."""
    found = {name: node[name] or 0 for name in ("width", "height")}
    return {**found, "crop": "center" if node["crop"] else "disabled"}


def with_guide(unet: UNet, kind: str, inputs: Mapping[str, Any]) -> UNet:
    """A UNet for which the prompts have to bring one thing more."""
    return dataclasses.replace(unet, guides=(*unet.guides, (kind, inputs)))


def with_model(unet: UNet, model: Slot) -> UNet:
    """A UNet whose MODEL is another one."""
    return dataclasses.replace(unet, model=model)
