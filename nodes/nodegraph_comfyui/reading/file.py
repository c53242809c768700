"""Finds the graph in a file: JSON in one of the two formats, or a PNG file that ComfyUI wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Literal

from nodegraph.plugin_api import WorkflowError, dataclass
from nodegraph_comfyui.reading.graph import problem
from nodegraph_comfyui.reading.signs import is_picture, may_be_graph
from nodegraph_nodes.pictures.texts import texts_in


@dataclass(frozen=True)
class Found:
    """A graph as JSON has it, and its format."""

    format: Literal["api", "editor"]
    content: Mapping[str, Any]


def find_graph(data: bytes, file: str) -> Found | None:
    """The graph in a file; None if the file is not ComfyUI's. Raises WorkflowError if it is damaged."""
    if is_picture(data):
        return _in_picture(data, file)
    if not may_be_graph(data):
        return None
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None  # YAML may begin with a brace, too
    return _recognised(content)


def _in_picture(data: bytes, file: str) -> Found | None:
    """The graph in the texts of a picture: the one that ran, else the editor's."""
    texts = texts_in(data)
    damaged = []
    for key in ("prompt", "workflow"):
        if key not in texts:
            continue
        try:
            found = _recognised(json.loads(texts[key]))
        except (ValueError, RecursionError) as error:
            damaged.append(f"its text '{key}' is not JSON ({str(error)[:80]})")
            continue
        if found is not None:
            return found
    if damaged:
        raise WorkflowError([problem(f"{file} is a picture with a damaged graph: {damaged[0]}", "Take a copy as it was written.")])
    return None


def _recognised(content: Any) -> Found | None:
    if not isinstance(content, dict):
        return None
    if isinstance(content.get("nodes"), list) and ("links" in content or "last_node_id" in content or "version" in content):
        return Found("editor", content)
    for candidate in (content, content.get("prompt")):
        if isinstance(candidate, dict) and candidate and any(_is_api_node(node) for node in candidate.values()):
            return Found("api", candidate)
    return None


def _is_api_node(node: Any) -> bool:
    return isinstance(node, dict) and "class_type" in node
