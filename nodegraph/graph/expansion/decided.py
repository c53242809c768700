"""What stays the same when the graph of a run is built again, because values that decide it are known now."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any

from nodegraph.graph.graph import Awaited
from nodegraph.light_dataclass import dataclass
from nodegraph.workflow.subworkflows import Sources


@dataclass(kw_only=True, eq=False)
class Decided:
    """Values that decide it (a length, or what is at `on`), seeds that were drawn, and files that were read."""

    values: Mapping[Awaited, Any] = field(default_factory=dict)
    seeds: dict[str, int] = field(default_factory=dict)
    sources: Sources = field(default_factory=Sources)
    files: dict[tuple[str, str], Any] = field(default_factory=dict)
