"""The pack's hook implementations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nodegraph import hookimpl
from nodegraph_comfyui.reading.signs import is_picture, may_be_graph

__nodegraph_includes__ = ("nodegraph_diffusion", "nodegraph_nodes")
__nodegraph_excludes__ = ("*.md", "*.yaml", "*.png", "*.safetensors", "*.json", "merges.txt")


@hookimpl
def register_importers(register: Callable[..., None]) -> None:
    register("comfyui", _import)


@hookimpl
def register_exporters(register: Callable[..., None]) -> None:
    register("comfyui", _export)


@hookimpl
def output_texts(nodes: Mapping[str, Mapping[str, Any]], node: str, data: bytes) -> Mapping[str, str]:
    if not is_picture(data):
        return {}
    from nodegraph_comfyui.exporting.prompt_text import prompt_text

    text = prompt_text(nodes, node)
    return {} if text is None else {"prompt": text}


def _import(request: Any) -> Any:
    """Graphs of ComfyUI: JSON in API or editor format, and pictures."""
    if not may_be_graph(request.data):  # as every workflow of ours in YAML
        return None
    from nodegraph_comfyui.importer import import_comfyui

    return import_comfyui(request)


def _export(request: Any) -> Any:
    """Graphs of ComfyUI: JSON in API format, or as its editor saves it (`--form editor`)."""
    from nodegraph_comfyui.exporting.exporter import export_comfyui

    return export_comfyui(request)
