"""The nodes of a workflow while it is made: steps without names, which refer to each other and to settings."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Any


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


@dataclass(eq=False)
class Step:
    """A node to be: its type, inputs, the name that it should have, and the subgraphs that it is inside.

    `title` is the name that the user gave the ComfyUI node, or "".
    """

    type: str
    inputs: dict[str, Any]
    name: str
    _: KW_ONLY
    level: tuple[str, ...] = ()
    title: str = ""


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

    def add(self, step: Step) -> Ref:
        """Add a step, unless there is one of the same type and inputs."""
        key = repr((step.type, sorted(step.inputs.items())))
        if key not in self._known:
            self._known[key] = len(self.steps)
            self.steps.append(step)
        return Ref(self._known[key])

    def above(self, ref: Ref) -> list[Step]:
        """The step of `ref` and those that feed it, the nearest first."""
        found, pending, seen = [], [ref.step], set()
        while pending:
            index = pending.pop(0)
            if index in seen:
                continue
            seen.add(index)
            found.append(self.steps[index])
            pending += [value.step for value in self.steps[index].inputs.values() if isinstance(value, Ref)]
        return found
