"""Everything that a plugin may use. These names are stable; the other modules of the engine may change at any time.

The names that node functions need are also exported by `nodegraph` itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nodegraph.errors import (
    CacheError,
    Cancelled,
    DeviceError,
    Location,
    NodeError,
    NodegraphError,
    OutputError,
    PluginError,
    Problem,
    SettingsError,
    TemporaryError,
    WorkflowError,
)
from nodegraph.files import FileState, file_states, replacing, write_whole
from nodegraph.node_types.fetching import NotFetchedError, expected_digests, may_fetch
from nodegraph.node_types.on_demand import OnDemand
from nodegraph.node_types.signature import spec_of
from nodegraph.node_types.spec import (
    Choice,
    Continues,
    File,
    Help,
    NodeSpec,
    OptionsOf,
    Port,
    Range,
    Reads,
    Resource,
    Run,
    Seed,
    node,
    under,
)
from nodegraph.plugins.backend import AUTO, Backend, Blocks, CpuBackend, Numerics, Renderer, SheetLabels, Terminal
from nodegraph.plugins.codec import Codec
from nodegraph.plugins.hookspecs import hookimpl, hookspec
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph.plugins.registry import Entry, Origin, Registry
from nodegraph.plugins.state.shared_changes import note_shared_change
from nodegraph.settings import model_dirs
from nodegraph.terminal import echo, echo_json
from nodegraph.text import did_you_mean

if TYPE_CHECKING:
    from nodegraph.run import events

__all__ = [
    "AUTO",
    "Backend",
    "Blocks",
    "CacheError",
    "Cancelled",
    "Choice",
    "Codec",
    "Continues",
    "CpuBackend",
    "DeviceError",
    "Entry",
    "File",
    "FileState",
    "Help",
    "Location",
    "NodeError",
    "NodeSpec",
    "NodegraphError",
    "NotFetchedError",
    "Numerics",
    "OnDemand",
    "OptionsOf",
    "Origin",
    "OutputError",
    "PluginError",
    "Plugins",
    "Port",
    "Problem",
    "Range",
    "Reads",
    "Registry",
    "Renderer",
    "Resource",
    "Run",
    "Seed",
    "SettingsError",
    "SheetLabels",
    "TemporaryError",
    "Terminal",
    "WorkflowError",
    "did_you_mean",
    "echo",
    "echo_json",
    "events",
    "expected_digests",
    "file_states",
    "hookimpl",
    "hookspec",
    "load_plugins",
    "may_fetch",
    "model_dirs",
    "node",
    "note_shared_change",
    "replacing",
    "spec_of",
    "under",
    "write_whole",
]


def __getattr__(name: str) -> Any:
    """`events` is imported when it is first used (PEP 562): a plugin that only registers nodes does not need it."""
    if name != "events":
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from nodegraph.run import events

    return events
