"""Every hook, node type, sampler, schedule, guidance and command has a docstring, a place in the docs, and a test."""

from __future__ import annotations

import importlib.util
import inspect
import re
from pathlib import Path

import pytest

import nodegraph
import nodegraph.hookspecs
import nodegraph_nodes.hookspecs
from nodegraph.plugins import Plugins

ROOT = Path(__file__).parent.parent
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("*.py")))
WORKFLOWS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflows").glob("*.yaml")))

_spec = importlib.util.spec_from_file_location("generate", ROOT / "docs/generate.py")
assert _spec is not None
assert _spec.loader is not None
generate = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(generate)

PLUGINS = Plugins()
HOOKS = {
    name: function
    for module in (nodegraph.hookspecs, nodegraph_nodes.hookspecs)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if hasattr(function, "nodegraph_spec")
}
THINGS = [(kind, entry) for kind in ("samplers", "schedules", "guidance") for entry in PLUGINS.registries[kind].entries()]


def is_tested(name: str) -> bool:
    """Whether a test, or a workflow that the tests run, says `name` as a word."""
    return re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", TESTS + WORKFLOWS) is not None


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_hooks(name):
    page = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    assert inspect.getdoc(HOOKS[name])
    assert re.search(rf"^\| `{name}\(", page, re.MULTILINE), f"docs/plugins.md does not list {name}"
    assert is_tested(name)


@pytest.mark.parametrize("entry", list(PLUGINS.nodes.entries()), ids=lambda entry: entry.name)
def test_nodes(entry):
    spec = entry.value
    assert spec.doc
    assert f"\n### {spec.name}\n" in (ROOT / "docs/nodes.md").read_text(encoding="utf-8")
    assert is_tested(spec.name)
    assert is_tested(spec.function.__name__), f"no test calls {spec.function.__name__}"


@pytest.mark.parametrize(("kind", "entry"), THINGS, ids=[f"{kind}-{entry.name}" for kind, entry in THINGS])
def test_samplers_schedules_and_guidance(kind, entry):
    assert inspect.getdoc(entry.value)
    assert f"\n### {entry.name}\n" in (ROOT / "docs/nodes.md").read_text(encoding="utf-8")
    assert is_tested(entry.name)


@pytest.mark.parametrize("words", generate.commands(), ids=" ".join)
def test_commands(words):
    assert f"\n## nodegraph {' '.join(words)}\n" in (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert re.search(rf'"{words[-1]}"', TESTS), f"no test runs 'nodegraph {' '.join(words)}'"


@pytest.mark.parametrize("name", ["cli.md", "nodes.md", "orders.md", "samplers.md"])
def test_generated_pages_are_up_to_date(name, monkeypatch):
    monkeypatch.delenv("NODEGRAPH_PLUGIN_DIR", raising=False)
    kept = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert kept == generate.pages()[name], "run: python docs/generate.py"


def test_the_public_names_are_these():
    assert sorted(nodegraph.__all__) == [
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
    assert all(getattr(nodegraph, name) for name in nodegraph.__all__)
