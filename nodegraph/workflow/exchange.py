"""Graphs of other programs: what importers read and return, and what exporters write.

A plugin registers an importer or exporter under the name of the program. Neither runs a node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any, TypeAlias

from nodegraph.light_dataclass import dataclass
from nodegraph.workflow.workflow import Workflow


@dataclass(frozen=True, kw_only=True, repr=False)
class ImportRequest:
    """A file that may be another program's: its content, what messages call it, and the name for its workflow.

    `folder` is the folder that it is in; relative paths in the workflow start from `base`. `partial`: import the part that can be
    imported.
    """

    data: bytes
    file: str
    name: str
    folder: Path
    base: Path
    partial: bool = False

    def __repr__(self) -> str:
        return f"<ImportRequest {self.file}>"


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A workflow made from a graph of another program.

    `comments` are texts for people, by the name of the node that each is about, or "" for those about the whole workflow. `notes`
    say what differs or is missing. `left_out` names each part that was not imported.
    """

    workflow: Workflow
    comments: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()


Importer: TypeAlias = Callable[[ImportRequest], Imported | None]
"""Returns None for a file that it does not know. Raises WorkflowError with everything that cannot be imported."""


@dataclass(frozen=True, kw_only=True, repr=False)
class ExportRequest:
    """A checked workflow to write for another program.

    `nodes` holds what each node uses (`use`), in the order in which they run, and its `inputs`, defaults included; a link has the
    attributes `node` and `port`. `outputs` holds for each output its link and the template of its file name, None if it has none.
    `form` is one of the exporter's own forms of a graph, "" for the usual one.
    """

    name: str
    nodes: Mapping[str, Mapping[str, Any]]
    outputs: Mapping[str, tuple[Any, str | None]]
    form: str = ""

    def __repr__(self) -> str:
        return f"<ExportRequest {self.name}>"


@dataclass(frozen=True, kw_only=True)
class Exported:
    """A graph as another program reads it. `notes` say what will differ there."""

    text: str
    notes: tuple[str, ...] = ()


Exporter: TypeAlias = Callable[[ExportRequest], Exported]
"""Raises WorkflowError with everything that the other program cannot express."""


def import_graph(request: ImportRequest, importers: Iterable[Importer]) -> Imported | None:
    """What the first importer that knows the file makes of it; None if no importer does. Raises WorkflowError."""
    found = (importer(request) for importer in importers)
    return next((imported for imported in found if imported is not None), None)
