"""Conditions on the steps of a run in which a prompt counts: plain data, importable without torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Before:
    """The steps before a switch. `when` is the number of steps before it: a float is a fraction of all steps of the run."""

    when: float

    def holds(self, step: int, steps: int) -> bool:
        return step < switch(self.when, steps)


@dataclass(frozen=True)
class From:
    """The steps from a switch on; `when` as for `Before`."""

    when: float

    def holds(self, step: int, steps: int) -> bool:
        return step >= switch(self.when, steps)


@dataclass(frozen=True)
class Every:
    """Each `count`-th step, from step `first` on; steps count from 0."""

    count: int
    first: int

    def holds(self, step: int, steps: int) -> bool:
        return step % self.count == self.first


StepCondition = Before | From | Every

_KINDS = {kind.__name__.lower(): kind for kind in (Before, From, Every)}


def switch(when: float, steps: int) -> int:
    """How many of `steps` steps come before a switch: `when` itself, or a fraction of the steps, rounded down."""
    return int(when * steps) if isinstance(when, float) else when


def as_lists(conditions: Iterable[StepCondition]) -> list[list[Any]]:
    """The conditions as JSON can hold them."""
    return [[type(condition).__name__.lower(), *vars(condition).values()] for condition in conditions]


def from_lists(lists: Iterable[list[Any]]) -> tuple[StepCondition, ...]:
    """The conditions that `as_lists` wrote."""
    return tuple(_KINDS[kind](*values) for kind, *values in lists)
