"""The pack's hook implementations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nodegraph import hookimpl

__nodegraph_includes__ = ("nodegraph_nodes",)
__nodegraph_excludes__ = ("*.md", "*.yaml", "*.png", "*.safetensors", "*.json", "merges.txt")


@hookimpl
def register_importers(register: Callable[..., None]) -> None:
    register("comfyui", _import)


def _import(request: Any) -> Any:
    """Graphs of ComfyUI: JSON in API or editor format, and pictures."""
    from nodegraph_comfyui.importer import import_comfyui

    return import_comfyui(request)
