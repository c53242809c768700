"""The plugin for tests of the engine and the command line: nodes without tensors, a type with a codec, registries and commands.

- `values`: the value types `Blob` (with a codec) and `Model` (without), and what the nodes share with the tests
- `nodes`: nodes that follow the rules
- `list_nodes`: nodes that return lists
- `checked_nodes`: nodes with every kind of input, for tests of what is checked before a run
- `faulty_nodes`: nodes that break the rules or raise, and a faulty backend
- `command_line`: nodes, a registry and commands whose output is easy to read
"""

from __future__ import annotations

from typing import Any

import pluggy

from nodegraph import hookimpl, hookspec

from . import checked_nodes, command_line, faulty_nodes, list_nodes, nodes
from .faulty_nodes import FaultyBackend, broken_filter
from .values import ALIVE, CALLS, EDITED, GO, MODELS, MOST_ALIVE, STARTED, Blob, BlobCodec, Model

__all__ = ["ALIVE", "CALLS", "EDITED", "GO", "MODELS", "MOST_ALIVE", "STARTED", "Blob", "BlobCodec", "FaultyBackend", "Model"]


class Hooks:
    @staticmethod
    @hookspec
    def register_filters(register: Any) -> None:
        """Register functions from text to text: `register(name, function)`."""

    @staticmethod
    @hookspec
    def register_widgets(register: Any) -> None:
        """Register functions that return a text: `register(name, function)`."""


@hookimpl
def add_hooks(pluginmanager: pluggy.PluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


@hookimpl
def register_nodes(register: Any) -> None:
    for module in (nodes, list_nodes, checked_nodes, faulty_nodes, command_line):
        for value in list(vars(module).values()):
            if hasattr(value, "__nodegraph__"):
                register(value)


@hookimpl
def register_codecs(register: Any) -> None:
    register(Blob, BlobCodec())


@hookimpl
def register_filters(register: Any) -> None:
    register("upper", str.upper)
    register("lower", str.lower, language="any")
    register("broken", broken_filter)


@hookimpl
def register_widgets(register: Any) -> None:
    register("gear", command_line.gear)


@hookimpl
def register_commands(cli: Any) -> None:
    command_line.add_commands(cli)
