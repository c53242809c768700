"""What a command imports: a process starts fast if it imports only what its command needs.

Each module costs about a millisecond, and a command is awaited by a person. A command that begins to import another package has to
name it here, where a reader sees what it costs everybody.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

from tests.support.imported_modules import modules_of

ROOT = Path(__file__).parents[2]
PACKAGES = ("nodegraph", "nodes/nodegraph_nodes", "nodes/nodegraph_training", "nodes/nodegraph_comfyui")

VERSION = """
    click nodegraph nodegraph.cli nodegraph.errors nodegraph.files nodegraph.gc_pause nodegraph.light_dataclass nodegraph.plugins
    nodegraph.terminal nodegraph.text
"""
HELP = """
    nodegraph.node_types nodegraph.plugin_api nodegraph.run nodegraph.settings platformdirs pluggy
    nodegraph_nodes nodegraph_nodes.commands nodegraph_nodes.forks nodegraph_nodes.hookspecs nodegraph_nodes.imported_torch
    nodegraph_nodes.library_switches nodegraph_nodes.models nodegraph_nodes.plugin nodegraph_nodes.process_state
    nodegraph_nodes.torch_switches nodegraph_nodes.waiting
    nodegraph_comfyui nodegraph_comfyui.plugin nodegraph_comfyui.reading nodegraph_training nodegraph_training.plugin
    nodegraph_diffusion nodegraph_diffusion.checkpoint
"""
CHECK = """
    nodegraph.cache nodegraph.engine nodegraph.graph nodegraph.workflow yaml
    nodegraph_nodes.catalogue nodegraph_nodes.codecs nodegraph_nodes.conversions nodegraph_nodes.model_files
    nodegraph_nodes.model_folders nodegraph_nodes.nodes nodegraph_nodes.pictures nodegraph_nodes.trained nodegraph_nodes.types
    nodegraph_training.data nodegraph_training.nodes nodegraph_training.types
    nodegraph_diffusion.denoising nodegraph_diffusion.guidance nodegraph_diffusion.networks nodegraph_diffusion.noise_schedule
    nodegraph_diffusion.options nodegraph_diffusion.sampling nodegraph_diffusion.schedules nodegraph_diffusion.tiny
"""
RUN = ""
"""What each command may import besides what those above it may."""

SLOW = {"importlib.metadata", "email", "zipfile", "asyncio", "sqlite3", "http", "multiprocessing", "concurrent.futures", "unittest"}
"""Modules of the standard library that import many others."""


def packages(modules: set[str]) -> set[str]:
    """The packages that modules belong to: ours with their first subpackage. Without the standard library."""
    parts = [name.split(".") for name in modules]
    ours = {".".join(part[:2]) for part in parts if part[0].startswith("nodegraph") and not part[0].startswith("nodegraph_plugin")}
    others = {part[0] for part in parts if "nodegraph" not in part[0]} - sys.stdlib_module_names
    return ours | {name for name in others if "cython" not in name}  # a compiled module of yaml brings these


def test_commands_import_only_what_they_need(cli, greeting):
    cli("run", greeting)
    names = ("--version", "--help", "check", "run")
    found = modules_of(cli, ["--version"], ["--help"], ["check", greeting], ["run", greeting])
    allowed: set[str] = set()
    for name, modules, more in zip(names, found, (VERSION, HELP, CHECK, RUN), strict=True):
        allowed |= set(more.split())
        assert (name, packages(modules) - allowed) == (name, set())
        assert (name, modules & SLOW) == (name, set())
    everything = packages(set().union(*found))
    assert allowed <= everything, "the lists above name what is no longer imported"


def test_packs_use_our_dataclasses():
    """Those of the standard library take a millisecond each, see `nodegraph.light_dataclass`."""
    for folder in PACKAGES:
        for path in (ROOT / folder).rglob("*.py"):
            if path.name == "light_dataclass.py":
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ImportFrom) and node.module == "dataclasses":
                    assert "dataclass" not in {alias.name for alias in node.names}, path
