"""The text `prompt` in pictures, from which ComfyUI opens the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nodegraph.plugin_api import Link
from nodegraph_comfyui.exporting.exporter import write


def prompt_text(nodes: Mapping[str, Mapping[str, Any]], node: str) -> str | None:
    """The graph above a node in API format; None if ComfyUI cannot express it."""
    port = "image" if nodes[node]["use"] in ("LoadImage", "Pad") else "output"
    written, problems = write(nodes, {"image": (Link(node, port), "ComfyUI")})
    return None if problems else json.dumps(written.nodes)
