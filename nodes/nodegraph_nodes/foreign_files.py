"""Files of other programs that people give to nodegraph instead of a workflow: what they are, and what to do instead."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import Any, Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_INSTEAD: Final = (
    "nodegraph does not read these graphs: write it again as a workflow. 'nodegraph nodes {type}' says which nodes to use for a "
    "node of ComfyUI, and 'nodegraph examples' lists workflows to begin with"
)
_PICTURES: Final = {
    "nodegraph": (
        "a picture made by nodegraph, and damaged, so that the workflow in it cannot be read. Take a copy as it was written"
    ),
    "prompt": f"a picture made by ComfyUI, with its graph inside, not a workflow. {_INSTEAD.format(type='KSampler')}",
    "parameters": (
        "a picture made by AUTOMATIC1111's program or a similar one, not a workflow. 'nodegraph show' prints the prompt "
        "and the settings in it: give them to a workflow with --set"
    ),
}


def describe_foreign_file(data: bytes) -> str | None:
    """How the sentence "FILE is ..." goes on for a graph of ComfyUI, or a picture with settings inside; None for other files."""
    if data.startswith(_PNG):
        keywords = set(_text_chunks(data))
        return next((text for keyword, text in _PICTURES.items() if keyword in keywords), None)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return None
    if not isinstance(content, dict):
        return None
    types = _api_types(content) or _api_types(content.get("prompt"))
    if types:
        return f"a graph of ComfyUI in API format, not a workflow of nodegraph. {_INSTEAD.format(type=types[0])}"
    types = _editor_types(content) if "links" in content else []
    if types:
        return f"a graph of ComfyUI, as its editor saves it, not a workflow of nodegraph. {_INSTEAD.format(type=types[0])}"
    return None


def _api_types(content: Any) -> list[str]:
    """The node types of a graph in API format; none if `content` is not one."""
    if not isinstance(content, dict) or not all(isinstance(node, dict) and "class_type" in node for node in content.values()):
        return []
    return _usual([str(node["class_type"]) for node in content.values()])


def _editor_types(content: dict[str, Any]) -> list[str]:
    nodes = content.get("nodes")
    if not isinstance(nodes, list) or not all(isinstance(node, dict) and "type" in node for node in nodes):
        return []
    return _usual([str(node["type"]) for node in nodes])


def _usual(types: list[str]) -> list[str]:
    """The types, the ones that make a good example first."""
    return sorted(types, key=lambda name: not name.startswith("KSampler"))


def _text_chunks(png: bytes) -> Iterator[str]:
    """The keywords of the text chunks of a PNG file."""
    position = len(_PNG)
    while position + 8 <= len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        if png[position + 4 : position + 8] in (b"tEXt", b"iTXt", b"zTXt"):
            yield png[position + 8 : position + 8 + min(length, 80)].partition(b"\0")[0].decode("latin-1")
        position += 12 + length
