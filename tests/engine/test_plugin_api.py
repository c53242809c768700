"""`nodegraph.plugin_api` is the plugin interface, and our own packs use nothing else of the engine."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nodegraph
from nodegraph import plugin_api

ROOT = Path(__file__).parents[2]
DOORS = {"nodegraph", "nodegraph.plugin_api"}
PACKS = [
    path
    for folder, pattern in (
        ("nodes/nodegraph_nodes", "*.py"),
        ("nodes/nodegraph_nodes", "*.py.txt"),
        ("nodes/nodegraph_training", "*.py"),
        ("nodes/nodegraph_comfyui", "*.py"),
        ("plugins", "*.py"),
    )
    for path in sorted((ROOT / folder).rglob(pattern))
]
IMPORT = re.compile(r"^\s*(?:from|import) (nodegraph(?:\.[\w.]+)?)(?= |$)(?: import (\w+))?", re.MULTILINE)

NAMES = """
    AUTO MISSING Backend Blocks CacheError Cancelled Choice Codec Continues CpuBackend DeviceError Document Entry
    ExportRequest Exported File FileState Help ImportRequest Imported Link Location NodeDef NodeError NodeSpec NodegraphError
    NotFetchedError Numerics OnDemand OptionsOf Origin OutputDef OutputError ParamDef ParamRef PluginError Plugins Port
    Problem Range Reads Registry Renderer Resource Run Seed SettingsError SheetLabels TemporaryError Terminal WorkflowError
    dataclass did_you_mean echo echo_json events expected_digests file_states hookimpl hookspec installed_version load_plugins
    may_fetch model_dirs node note_shared_change replacing spec_of under write_whole
"""


def test_public_names_for_plugins_are_listed():
    assert plugin_api.__all__ == NAMES.split()
    assert all(hasattr(plugin_api, name) for name in plugin_api.__all__)
    page = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    assert [name for name in plugin_api.__all__ if not re.search(rf"`{name}(`|\()", page)] == []


def test_shared_names_are_the_same_objects():
    both = set(plugin_api.__all__) & set(nodegraph.__all__)
    assert {"node", "hookimpl", "Choice"} <= both
    assert all(getattr(plugin_api, name) is getattr(nodegraph, name) for name in both)


def test_plugin_api_imports_nothing_heavy():
    heavy = {"torch", "numpy", "PIL", "networkx", "click", "rich"}
    code = f"import sys, nodegraph.plugin_api; print(*sorted(set(sys.modules) & {heavy!r}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert (ran.returncode, ran.stdout.split()) == (0, []), ran.stderr


@pytest.mark.parametrize("path", PACKS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_our_packs_import_only_plugin_api(path):
    for module, name in IMPORT.findall(path.read_text(encoding="utf-8")):
        assert module in DOORS, f"imports {module}: export what it needs from nodegraph.plugin_api"
        if module == "nodegraph" and name:
            assert name in nodegraph.__all__
