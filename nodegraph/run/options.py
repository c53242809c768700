"""What is asked for when a run begins: the workflow, and the options of `Engine.run`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

from nodegraph.errors import Problem, WorkflowError
from nodegraph.graph.graph import Graph
from nodegraph.graph.overrides import Override
from nodegraph.light_dataclass import dataclass
from nodegraph.run.outputs.own_files import OwnFiles
from nodegraph.text import described
from nodegraph.workflow.handles import Handle, NodeHandle, PortHandle, link_of
from nodegraph.workflow.workflow import Workflow

WorkflowSource: TypeAlias = Workflow | Path | str
"""A workflow, or the path of its file."""


class RunOptions(TypedDict, total=False):
    """The options of `Engine.run`, which describes them, for methods that pass them on."""

    params: Mapping[str, Any] | None
    overrides: Sequence[Override]
    targets: Iterable[Handle | str] | None
    force: Sequence[str]
    out: Path | str | None
    overwrite: bool
    keep_going: bool
    verify: float | None
    own_files: OwnFiles | None
    locked: bool | Path | str
    metadata: bool
    graph: Graph | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Options:
    """The same with their defaults."""

    params: Mapping[str, Any] | None = None
    overrides: Sequence[Override] = ()
    targets: Iterable[Handle | str] | None = None
    force: Sequence[str] = ()
    out: Path | str | None = None
    overwrite: bool = False
    keep_going: bool = False
    verify: float | None = None
    own_files: OwnFiles | None = None
    locked: bool | Path | str = False
    metadata: bool = True
    graph: Graph | None = None


def names_of(targets: Iterable[Handle | str] | Handle | str | None) -> list[str]:
    """The names of nodes, ports or outputs, also for handles; a single one may stand alone. Raises WorkflowError for others."""
    if isinstance(targets, str | NodeHandle | PortHandle):
        targets = [targets]
    names = []
    for target in targets or ():
        if isinstance(target, NodeHandle | PortHandle):
            link = link_of(target)
            target = f"{link.node}.{link.port}" if link.port is not None else link.node
        if not isinstance(target, str):
            raise WorkflowError([Problem("E120", f"expected the name or the handle of a node, found {described(target)}")])
        names.append(target)
    return names


def path_of(workflow: Path | str) -> Path:
    """The path of a workflow. Raises WorkflowError for things that cannot be one."""
    try:
        return Path(workflow)
    except TypeError:
        message = f"expected a workflow or the path of its file, found {described(workflow)}"
        raise WorkflowError([Problem("E100", message, None, "Workflow.parse reads text.")]) from None
