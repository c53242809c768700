"""The points of a sweep: what was tried, and what came of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import field
from typing import Any, Literal

from nodegraph.light_dataclass import dataclass
from nodegraph.text import number

PointStatus = Literal["done", "failed", "skipped"]
"""What became of a point. "skipped": the sweep ended before its turn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Point:
    """One point: the values of the axes, by name, and what came of them.

    `number` counts from 1. `keys` are those of the outputs, None for one without a key, and `files` the paths of their files below
    the folder of the sweep. `identity` differs if the workflow, a value or a key does. `is_kept`: it was done by an earlier sweep.
    `differed` are the nodes whose result in the cache was wrong, and was replaced.
    """

    number: int
    params: Mapping[str, Any]
    status: PointStatus = "skipped"
    seconds: float = 0.0
    keys: Mapping[str, str | None] = field(default_factory=dict)
    files: Mapping[str, Sequence[str]] = field(default_factory=dict)
    error: str | None = None
    run: str | None = None
    identity: str = ""
    is_kept: bool = False
    differed: Sequence[str] = ()
    readers: Mapping[str, Callable[[], Any]] = field(default_factory=dict, repr=False)

    def __getitem__(self, output: str) -> Any:
        """The value of an output. Raises KeyError if there is none: the point failed, or an earlier sweep has written its files."""
        if output not in self.readers:
            known = f"Its outputs are {', '.join(self.readers)}" if self.readers else f"It is {self.status}, and has no values here"
            raise KeyError(f"point {self.number} has no value '{output}'. {known}")
        return self.readers[output]()

    @property
    def name(self) -> str:
        """The values as a person writes them: "seed=1, cfg=3"."""
        return ", ".join(f"{name}={shown(value)}" for name, value in self.params.items())


def shown(value: Any) -> str:
    """A value of an axis as a table and a label show it."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(shown, value))}]"
    return number(value) if isinstance(value, float) else str(value)
