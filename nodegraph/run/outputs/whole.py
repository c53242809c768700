"""The workflow that made an output, whole: with its sub-workflows inside, and the files that it read by their digests."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path, PurePath

from nodegraph.graph.expansion.embedded import embedded
from nodegraph.graph.graph import Graph
from nodegraph.node_types.portable import portable
from nodegraph.node_types.spec import under
from nodegraph.workflow.recorded import recorded_name
from nodegraph.workflow.workflow import Workflow


def whole_workflow(graph: Graph) -> Workflow:
    """The workflow as it ran, in one file. No path in it names the user's home folder."""
    start = graph.resolved.base
    read = {(value.address, value.base) for value in graph.read_values()}

    def paths(base: Path) -> Mapping[str, str]:
        found = {}
        for address, own in read:
            assert address is not None  # only values that name files are asked
            assert own is not None
            written = address if own == base else _relative(address, own, base)
            if (moved := portable(written, base, base)) != written:
                found[written] = moved
        return found

    if graph.composed is not None:
        return graph.composed.embedded(graph.resolved, paths)
    return embedded(graph.resolved, paths) if any(paths(start)) else graph.resolved


def recorded_files(graph: Graph, digest: Callable[[Path], str]) -> dict[str, dict[str, str]]:
    """The SHA-256 of the files that the nodes read, under the names that `recorded_name` gives them in the whole workflow."""
    start = graph.resolved.base
    inside = {start, *(graph.composed.folders() if graph.composed is not None else ())}
    found: dict[str, dict[str, str]] = {}
    for value in graph.read_values():
        assert value.address is not None  # only values that name files are asked
        assert value.base is not None
        base = value.base if value.base in inside else start
        name = portable(recorded_name(portable(value.address, value.base, base), base, start), start, start)
        for key, path in sorted((value.files or {}).items()):
            try:
                found.setdefault(name, {})[key] = digest(path)
            except OSError:  # it is gone, although a node has read it
                continue
    return dict(sorted(found.items()))


def _relative(address: str, own: Path, base: Path) -> str:
    """A path as `InputValue.in_workflow` writes it."""
    try:
        path = under(own, address)
        if Path(address).is_absolute() or address.startswith("~") or not path.exists():
            return address
        return PurePath(os.path.relpath(path, base)).as_posix()
    except (OSError, ValueError):
        return address
