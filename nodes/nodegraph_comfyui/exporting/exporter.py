"""The exporter: a checked workflow as a graph of ComfyUI's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from nodegraph.plugin_api import Exported, ExportRequest, Problem, WorkflowError
from nodegraph_comfyui.exporting.editor import as_editor
from nodegraph_comfyui.exporting.graph import Export, InexpressibleError, Latent, Written
from nodegraph_comfyui.exporting.nodes import WRITE
from nodegraph_comfyui.reading.graph import problem

_FORMS: Final = ("api", "editor")


def export_comfyui(request: ExportRequest) -> Exported:
    """The graph in API format, or as the editor saves it. Raises WorkflowError with everything that ComfyUI cannot express."""
    if request.form not in ("", *_FORMS):
        raise WorkflowError([problem(f"ComfyUI has no form '{request.form}'. Expected {' or '.join(_FORMS)}")])
    written, problems = write(request.nodes, request.outputs)
    if problems:
        raise WorkflowError(problems)
    graph = as_editor(written.nodes) if request.form == "editor" else written.nodes
    return Exported(text=json.dumps(graph, indent=1) + "\n", notes=tuple(written.notes))


def write(nodes: Mapping[str, Mapping[str, Any]], outputs: Mapping[str, tuple[Any, str | None]]) -> tuple[Written, list[Problem]]:
    """The graph in API format, and a problem for each node and output that ComfyUI cannot express."""
    written, problems = Written(), []
    broken: set[str] = set()
    for name, node in nodes.items():
        kind, inputs = node["use"], node["inputs"]
        if kind not in WRITE:
            problems.append(problem(f"node '{name}': ComfyUI has no counterpart of {kind}"))
            broken.add(name)
            continue
        if any(getattr(value, "node", None) in broken for value in inputs.values()):
            broken.add(name)
            continue
        try:
            export = Export(name, inputs, written)
            WRITE[kind](export)
            written.seeds.setdefault(name, export.seeds)
        except InexpressibleError as error:
            problems.append(problem(f"node '{name}' ({kind}): {error}"))
            broken.add(name)
    for name, (link, save) in outputs.items():
        found = written.values.get((link.node, link.port))
        if link.node not in broken and (not isinstance(found, list) or _is_picture(nodes[link.node]["use"], link.port) is False):
            what = "a latent" if isinstance(found, Latent) else f"an output of {nodes[link.node]['use']}"
            problems.append(problem(f"output '{name}' is {what}; ComfyUI saves pictures"))
        elif save is None:
            written.add("PreviewImage", name, images=found)
        else:
            written.add("SaveImage", name, images=found, filename_prefix=prefix_of(save))
    return written, problems


def _is_picture(kind: str, port: str | None) -> bool:
    """Whether an output that is one link is a picture."""
    pictures = ("VAEDecode", "LoadImage", "Pad", "Resize", "Upscale", "Canny", "RepeatImage", "ImageFromBatch")
    return kind in pictures and port != "mask"


def prefix_of(save: str) -> str:
    """ComfyUI's prefix for the template of a file name; what it cannot fill in is left out."""
    text = re.sub(r"\.[A-Za-z]{2,5}$", "", save).replace("{date}", "%date:yyyy-MM-dd%")
    text = re.sub(r"(?<!\{)\{[^{}]*\}(?!\})", "", text).replace("{{", "{").replace("}}", "}")
    return text.strip("-_. ") or "ComfyUI"
