"""The importer: a file of ComfyUI's as a workflow."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nodegraph.plugin_api import Imported, ImportRequest
from nodegraph_comfyui.arranging import arrange
from nodegraph_comfyui.classes.table import widgets_of
from nodegraph_comfyui.converting import convert
from nodegraph_comfyui.files import found_inputs, missing_files
from nodegraph_comfyui.reading.api import read_api
from nodegraph_comfyui.reading.editor import read_editor
from nodegraph_comfyui.reading.file import find_graph
from nodegraph_comfyui.reading.flatten import flatten
from nodegraph_comfyui.reading.graph import ComfyGraph


def import_comfyui(request: ImportRequest) -> Imported | None:
    """The workflow for a graph in API or editor format, or in a picture; None for files of others. Raises WorkflowError."""
    graph = read_graph(request)
    if graph is None:
        return None
    conversion = convert(graph, request.file, partial=request.partial)
    converted = conversion.converted
    found_inputs(converted, request)
    arranged = arrange(converted.steps, request.name, request.base, all=request.partial)
    notes = (*converted.notes, *missing_files(converted, request))
    text = "\n\n".join((*graph.notes, *_groups(graph, arranged.names)))
    comments = {"": text} if text else {}
    return Imported(workflow=arranged.workflow, comments=comments, notes=notes, left_out=conversion.left_out)


def _groups(graph: ComfyGraph, names: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """A text about the groups of a graph: the names of the nodes in each."""
    nodes = ((group.title, [name for id in group.nodes for name in names.get(id, ())]) for group in graph.groups)
    lines = [f"- {title}: {', '.join(found)}" for title, found in nodes if found]
    if lines:
        yield "\n".join(["Groups:", *lines])


def read_graph(request: ImportRequest) -> ComfyGraph | None:
    """The graph in a file, in one form; None for files of others. Raises WorkflowError."""
    found = find_graph(request.data, request.file)
    if found is None:
        return None
    if found.format == "api":
        return read_api(found.content, request.file)
    return flatten(read_editor(found.content, request.file), widgets_of, request.file)
