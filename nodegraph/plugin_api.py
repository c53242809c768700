"""What plugins may use, beside the names exported by `nodegraph`. Other modules of the engine may change at any time."""

from __future__ import annotations

from nodegraph.errors import OutputError, PluginError, SettingsError
from nodegraph.files import FileState
from nodegraph.node_types.spec import under
from nodegraph.plugins.backend import AUTO, Backend, Blocks, CpuBackend, Numerics, Renderer

__all__ = [
    "AUTO",
    "Backend",
    "Blocks",
    "CpuBackend",
    "FileState",
    "Numerics",
    "OutputError",
    "PluginError",
    "Renderer",
    "SettingsError",
    "under",
]
