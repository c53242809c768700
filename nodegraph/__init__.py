"""A plugin-based node-graph engine with a cache that survives the process. The public names, nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodegraph.errors import (
    CacheError,
    Cancelled,
    Location,
    NodeError,
    NodegraphError,
    OutputError,
    PluginError,
    Problem,
    WorkflowError,
)
from nodegraph.node_types.spec import Choice, File, Help, OptionsOf, Range, Reads, Resource, Run, Seed, node
from nodegraph.workflow.workflow import Workflow

if TYPE_CHECKING:
    from nodegraph.engine import Engine, Result
    from nodegraph.plugins.hookspecs import hookimpl, hookspec

__all__ = [
    "CacheError",
    "Cancelled",
    "Choice",
    "Engine",
    "File",
    "Help",
    "Location",
    "NodeError",
    "NodegraphError",
    "OptionsOf",
    "OutputError",
    "PluginError",
    "Problem",
    "Range",
    "Reads",
    "Resource",
    "Result",
    "Run",
    "Seed",
    "Workflow",
    "WorkflowError",
    "hookimpl",
    "hookspec",
    "node",
]

_LAZY = {"Engine": "engine", "Result": "engine", "hookimpl": "plugins.hookspecs", "hookspec": "plugins.hookspecs"}


def __getattr__(name: str) -> Any:
    """What costs an import of networkx or pluggy is imported when it is first asked for (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'nodegraph' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"nodegraph.{_LAZY[name]}"), name)
