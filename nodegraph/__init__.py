"""A plugin-based node-graph engine with a cache that outlives the process. These are its public names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodegraph.errors import (
    CacheError,
    Cancelled,
    DeviceError,
    Location,
    LockError,
    NodeError,
    NodegraphError,
    OutputError,
    PluginError,
    Problem,
    SweepError,
    WorkflowError,
)

if TYPE_CHECKING:
    from nodegraph.engine import Engine, Result, RunHandle
    from nodegraph.node_types.spec import Choice, Continues, File, Help, OptionsOf, Range, Reads, Resource, Run, Seed, node
    from nodegraph.plugins.hookspecs import hookimpl, hookspec
    from nodegraph.reproduce.diff import diff
    from nodegraph.reproduce.lock import lock, verify
    from nodegraph.run.workers.ray.workers import RayWorkers
    from nodegraph.sweeps.result import SweepResult
    from nodegraph.sweeps.run import sweep
    from nodegraph.workflow.workflow import Workflow

__all__ = [
    "CacheError",
    "Cancelled",
    "Choice",
    "Continues",
    "DeviceError",
    "Engine",
    "File",
    "Help",
    "Location",
    "LockError",
    "NodeError",
    "NodegraphError",
    "OptionsOf",
    "OutputError",
    "PluginError",
    "Problem",
    "Range",
    "RayWorkers",
    "Reads",
    "Resource",
    "Result",
    "Run",
    "RunHandle",
    "Seed",
    "SweepError",
    "SweepResult",
    "Workflow",
    "WorkflowError",
    "diff",
    "hookimpl",
    "hookspec",
    "lock",
    "node",
    "sweep",
    "verify",
]

_OF_NODE_TYPES = ("Choice", "Continues", "File", "Help", "OptionsOf", "Range", "Reads", "Resource", "Run", "Seed", "node")
_LAZY = {
    **dict.fromkeys(_OF_NODE_TYPES, "node_types.spec"),
    "Engine": "engine",
    "RayWorkers": "run.workers.ray.workers",
    "Result": "engine",
    "RunHandle": "engine",
    "SweepResult": "sweeps.result",
    "Workflow": "workflow.workflow",
    "hookimpl": "plugins.hookspecs",
    "hookspec": "plugins.hookspecs",
    "diff": "reproduce.diff",
    "lock": "reproduce.lock",
    "sweep": "sweeps.run",
    "verify": "reproduce.lock",
}


def __getattr__(name: str) -> Any:
    """Import a name that not every command needs when it is first used (PEP 562)."""
    if name not in _LAZY:
        raise AttributeError(f"module 'nodegraph' has no attribute '{name}'")
    import importlib

    return getattr(importlib.import_module(f"nodegraph.{_LAZY[name]}"), name)
