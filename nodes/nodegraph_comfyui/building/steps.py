"""The nodes of a workflow while it is made: steps without names, which refer to each other and to settings."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Container, Mapping
from dataclasses import KW_ONLY, field
from typing import Any, Final

from nodegraph.plugin_api import dataclass


@dataclass(frozen=True)
class Ref:
    """An output of a step; `port` is None for its only one."""

    step: int
    port: str | None = None


@dataclass(frozen=True)
class Setting:
    """A value that people change: it becomes a param.

    `name` is the name that the param should have. Settings of the same `owner` and name are one param. `title` is what a user
    called it, or "".
    """

    name: str
    value: Any
    owner: str
    title: str = ""


@dataclass(frozen=True)
class SamplingSeed:
    """The seed of the sampler that a step feeds, which is not known before that is made."""


EACH: Final = "each"
"""The entry of a node that maps it over lists, by its inputs."""


@dataclass(eq=False)
class Step:
    """A node to be: its type, inputs, the name that it should have, and the subgraphs that it is inside.

    `origin` is the id of the ComfyUI node that it is made of, and `title` the name that the user gave that, or "".
    `makes_list`: its type returns a list.
    """

    type: str
    inputs: dict[str, Any]
    name: str
    _: KW_ONLY
    level: tuple[str, ...] = ()
    title: str = ""
    origin: str = ""
    makes_list: bool = False


@dataclass(frozen=True)
class Wanted:
    """An output to be: its name, what it is, and the template of its file."""

    name: str
    ref: Ref
    save: str | None


@dataclass(eq=False)
class Steps:
    """The steps so far, each after those that it refers to, and the outputs. Steps that would be the same are one."""

    steps: list[Step] = field(default_factory=list)
    outputs: list[Wanted] = field(default_factory=list)
    subgraphs: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    _known: dict[str, int] = field(default_factory=dict)
    _waiting: set[int] = field(default_factory=set)

    def add(self, step: Step) -> Ref:
        """Add a step, unless there is one of the same type and inputs."""
        key = repr((step.type, sorted(step.inputs.items())))
        if key not in self._known:
            index = self._known[key] = len(self.steps)
            self.steps.append(step)
            if any(self._waits(value) for value in step.inputs.values()):
                self._waiting.add(index)
        return Ref(self._known[key])

    def is_list(self, value: Any) -> bool:
        """Whether a value is a link to a list."""
        return isinstance(value, Ref) and (self.steps[value.step].makes_list or EACH in self.steps[value.step].inputs)

    def _waits(self, value: Any) -> bool:
        return isinstance(value, SamplingSeed) or any(source.step in self._waiting for source in _refs(value))

    def seeded(self, ref: Ref, seed: Any) -> Ref:
        """The same with the seed of its sampler wherever a step above waits for it."""
        made: dict[int, int] = {}
        for index in sorted(self._above(ref, within=self._waiting)):
            step = self.steps[index]
            inputs = {name: _seeded(value, seed, made) for name, value in step.inputs.items()}
            made[index] = self.add(dataclasses.replace(step, inputs=inputs)).step
        return Ref(made.get(ref.step, ref.step), ref.port)

    def present(self, *, all: bool) -> list[int]:
        """The numbers of the steps that the outputs need; with `all`, of every step. Those that wait for a seed are not needed."""
        if all:
            for index in sorted(self._waiting):
                self.seeded(Ref(index), 0)
            return [index for index in range(len(self.steps)) if index not in self._waiting]
        return sorted({index for wanted in self.outputs for index in self._above(wanted.ref)})

    def above(self, ref: Ref) -> list[Step]:
        """The step of `ref` and those that feed it, the nearest first."""
        return [self.steps[index] for index in self._above(ref)]

    def _above(self, ref: Ref, within: Container[int] | None = None) -> dict[int, None]:
        """The numbers of these steps, or of those `within` a part of the graph."""
        found, pending = dict[int, None](), deque([ref.step])
        while pending:
            index = pending.popleft()
            if index not in found and (within is None or index in within):
                found[index] = None
                pending += [source.step for value in self.steps[index].inputs.values() for source in _refs(value)]
        return found


def _refs(value: Any) -> list[Ref]:
    """The links in the value of an input."""
    parts = value if isinstance(value, list) else value.values() if isinstance(value, dict) else [value]
    return [part for part in parts if isinstance(part, Ref)]


def _seeded(value: Any, seed: Any, made: Mapping[int, int]) -> Any:
    if isinstance(value, SamplingSeed):
        return seed
    if isinstance(value, dict):
        return {name: _seeded(part, seed, made) for name, part in value.items()}
    return Ref(made[value.step], value.port) if isinstance(value, Ref) and value.step in made else value
