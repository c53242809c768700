"""The text `prompt` in pictures, from which ComfyUI opens the graph."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nodegraph.plugin_api import Link
from nodegraph_comfyui.exporting.exporter import write


def prompt_text(nodes: Mapping[str, Mapping[str, Any]], node: str) -> str | None:
    """The graph above a node in API format; None if ComfyUI cannot express it."""
    above = _above(nodes, node)
    port = "image" if nodes[node]["use"] in ("LoadImage", "Pad") else "output"
    written, problems = write({name: nodes[name] for name in nodes if name in above}, {"image": (Link(node, port), "ComfyUI")})
    return None if problems else json.dumps(written.nodes)


def _above(nodes: Mapping[str, Mapping[str, Any]], node: str) -> set[str]:
    found, pending = set[str](), [node]
    while pending:
        name = pending.pop()
        if name in found or name not in nodes:
            continue
        found.add(name)
        for value in nodes[name]["inputs"].values():
            pending += [link.node for link in (value if isinstance(value, list) else [value]) if isinstance(link, Link)]
    return found
