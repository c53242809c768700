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
from nodegraph.light_dataclass import dataclass
from nodegraph.node_types.fetching import NotFetchedError, expected_digests, may_fetch
from nodegraph.node_types.on_demand import OnDemand
from nodegraph.node_types.signature import spec_of
from nodegraph.node_types.spec import (
    MISSING,
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
from nodegraph.plugins.distributions import installed_version
from nodegraph.plugins.hookspecs import hookimpl, hookspec
from nodegraph.plugins.manager import Plugins, load_plugins
from nodegraph.plugins.registry import Entry, Origin, Registry
from nodegraph.plugins.state.shared_changes import note_shared_change
from nodegraph.settings import model_dirs
from nodegraph.terminal import echo, echo_json
from nodegraph.text import did_you_mean

if TYPE_CHECKING:
    from nodegraph.run import events
    from nodegraph.workflow.definitions import Document, Link, NodeDef, OutputDef, ParamDef, ParamRef
    from nodegraph.workflow.exchange import Exported, ExportRequest, Imported, ImportRequest

__all__ = [
    "AUTO",
    "MISSING",
    "Backend",
    "Blocks",
    "CacheError",
    "Cancelled",
    "Choice",
    "Codec",
    "Continues",
    "CpuBackend",
    "DeviceError",
    "Document",
    "Entry",
    "ExportRequest",
    "Exported",
    "File",
    "FileState",
    "Help",
    "ImportRequest",
    "Imported",
    "Link",
    "Location",
    "NodeDef",
    "NodeError",
    "NodeSpec",
    "NodegraphError",
    "NotFetchedError",
    "Numerics",
    "OnDemand",
    "OptionsOf",
    "Origin",
    "OutputDef",
    "OutputError",
    "ParamDef",
    "ParamRef",
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
    "dataclass",
    "did_you_mean",
    "echo",
    "echo_json",
    "events",
    "expected_digests",
    "file_states",
    "hookimpl",
    "hookspec",
    "installed_version",
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


_LAZY = dict.fromkeys(("Document", "Link", "NodeDef", "OutputDef", "ParamDef", "ParamRef"), "workflow.definitions")
_LAZY |= dict.fromkeys(("Exported", "ExportRequest", "Imported", "ImportRequest"), "workflow.exchange")


def __getattr__(name: str) -> Any:
    """Import what a plugin that only registers nodes does not need when it is first used (PEP 562)."""
    import importlib

    if name == "events":
        return importlib.import_module("nodegraph.run.events")
    if name in _LAZY:
        return getattr(importlib.import_module(f"nodegraph.{_LAZY[name]}"), name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
