"""The exporter: a checked workflow as a graph of ComfyUI's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from nodegraph.plugin_api import Exported, ExportRequest, Problem, WorkflowError
from nodegraph_comfyui.classes.table import TABLE
from nodegraph_comfyui.exporting.editor import as_editor
from nodegraph_comfyui.exporting.graph import Export, InexpressibleError, Latent, Slot, Written, links_in
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
    """The graph in API format for the outputs, and a problem for each node and output that ComfyUI cannot express."""
    written, problems = Written(), []
    broken: set[str] = set()
    needed = _above(nodes, (link.node for link, _ in outputs.values()))
    for name in (name for name in nodes if name in needed):
        kind, inputs = nodes[name]["use"], nodes[name]["inputs"]
        if kind not in WRITE:
            problems.append(problem(f"node '{name}': ComfyUI has no counterpart of {kind}"))
            broken.add(name)
            continue
        if any(link.node in broken for value in inputs.values() for link in links_in(value)):
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
        if (
            link.node not in broken
            and (why := _write_output(written, name, link, save=save, kind=nodes[link.node]["use"])) is not None
        ):
            problems.append(problem(f"output '{name}' is {why}; ComfyUI saves pictures and latents"))
    written.nodes = _used(written.nodes)
    return written, problems


def _write_output(written: Written, name: str, link: Any, *, save: str | None, kind: str) -> str | None:
    """Write the node of an output. Returns what the output is, if ComfyUI has no node for it."""
    found = written.values.get((link.node, link.port))
    prefix = {} if save is None else {"filename_prefix": prefix_of(save)}
    if isinstance(found, Latent):
        if save is not None and not save.endswith(".latent"):
            written.notes.append(f"output '{name}': ComfyUI saves it as '.latent'")
        written.add("SaveLatent", name, samples=found.slot, **({"filename_prefix": "latents/ComfyUI"} | prefix))
    elif isinstance(found, list) and _is_picture(written, found):
        written.add("PreviewImage" if save is None else "SaveImage", name, images=found, **prefix)
    else:
        return f"an output of {kind}"
    return None


def _above(nodes: Mapping[str, Mapping[str, Any]], ends: Iterable[str]) -> set[str]:
    """The nodes that these ones need, and themselves."""
    found, pending = set[str](), [*ends]
    while pending:
        name = pending.pop()
        if name not in found and name in nodes:
            found.add(name)
            pending += [link.node for value in nodes[name]["inputs"].values() for link in links_in(value)]
    return found


def _used(nodes: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The nodes that those without outputs need, numbered again."""
    used, pending = set[str](), [id for id, node in nodes.items() if not TABLE[node["class_type"]].outputs]
    while pending:
        id = pending.pop()
        if id not in used:
            used.add(id)
            pending += [value[0] for value in nodes[id]["inputs"].values() if isinstance(value, list)]
    numbers = {id: str(number) for number, id in enumerate((id for id in nodes if id in used), 1)}
    return {
        numbers[id]: node | {"inputs": {name: _renumbered(value, numbers) for name, value in node["inputs"].items()}}
        for id, node in nodes.items()
        if id in used
    }


def _renumbered(value: Any, numbers: Mapping[str, str]) -> Any:
    return [numbers[value[0]], *value[1:]] if isinstance(value, list) else value


def _is_picture(written: Written, slot: Slot) -> bool:
    """Whether an output of a node is a picture."""
    return TABLE[written.nodes[slot[0]]["class_type"]].outputs[slot[1]] == "IMAGE"


def prefix_of(save: str) -> str:
    """ComfyUI's prefix for the template of a file name; what it cannot fill in is left out."""
    text = re.sub(r"\.([A-Za-z]{2,5}|safetensors|latent)$", "", save).replace("{date}", "%date:yyyy-MM-dd%")
    text = re.sub(r"(?<!\{)\{[^{}]*\}(?!\})", "", text).replace("{{", "{").replace("}}", "}")
    return text.strip("-_. ") or "ComfyUI"
