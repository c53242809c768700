"""Every hook, node type, sampler, schedule, guidance and command has a docstring, a place in the docs, and a test."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import nodegraph
import nodegraph.plugins.hookspecs
import nodegraph_nodes.hookspecs
from docs import generate
from nodegraph.plugins.manager import Plugins

ROOT = Path(__file__).parent.parent
TESTS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("*.py")))
WORKFLOWS = "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "workflows").glob("*.yaml")))

PLUGINS = Plugins()
HOOKS = {
    name: function
    for module in (nodegraph.plugins.hookspecs, nodegraph_nodes.hookspecs)
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


def test_each_name_from_elsewhere_has_a_row_with_the_nodes_that_it_leads_to():
    page = (ROOT / "docs/comfyui.md").read_text(encoding="utf-8")
    table = page[page.index("## Node by node") : page.index("## What is not a node")]
    rows = [
        [re.findall(r"`(\w+)`", cell) for cell in line.split("|")[1:3]] for line in table.splitlines() if line.startswith("| `")
    ]
    leads = {name: set(here) for names, here in rows for name in names}
    declared: dict[str, set[str]] = {}
    for entry in PLUGINS.nodes.entries():
        for name in entry.value.foreign_names:
            declared.setdefault(name, set()).add(entry.name)
    assert declared == {name: here for name, here in leads.items() if name not in PLUGINS.nodes}
    assert all(name in here for name, here in leads.items() if name in PLUGINS.nodes)


NODES = [("nodes", entry) for entry in PLUGINS.nodes.entries()]


@pytest.mark.parametrize(("kind", "entry"), [*NODES, *THINGS], ids=lambda part: part if isinstance(part, str) else part.name)
def test_listings_have_short_lines(kind, entry):
    doc = entry.value.doc if kind == "nodes" else inspect.getdoc(entry.value)
    line = doc.splitlines()[0]
    assert len(line) <= 80
    assert line.endswith("."), "a listing shows the first line alone: make it a sentence"


def test_the_list_of_commands_is_cut_nowhere():
    listed = generate.said("--help").partition("Commands:")[2]
    assert "explain" in listed
    assert "..." not in listed


@pytest.mark.parametrize(("kind", "entry"), THINGS, ids=[f"{kind}-{entry.name}" for kind, entry in THINGS])
def test_samplers_schedules_and_guidance(kind, entry):
    assert inspect.getdoc(entry.value)
    assert f"\n### {entry.name}\n" in (ROOT / "docs/nodes.md").read_text(encoding="utf-8")
    assert is_tested(entry.name)


@pytest.mark.parametrize(
    "room", ["nodegraph", "nodes/nodegraph_diffusion", "nodes/nodegraph_diffusion/checkpoint", "nodes/nodegraph_nodes"]
)
def test_the_rooms_of_the_code_are_in_the_page_of_its_architecture(room):
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    inside = [path for path in (ROOT / room).iterdir() if not path.name.startswith(("_", ".")) and path.name != "py.typed"]
    names = [f"{path.name}/" if path.is_dir() else path.name for path in inside if path.is_dir() or path.suffix == ".py"]
    assert [name for name in names if name not in page] == []


def test_the_page_of_the_architecture_names_no_file_that_is_gone():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    there = {path.name for folder in ("nodegraph", "nodes", "docs", "tests") for path in (ROOT / folder).rglob("*.py")}
    assert sorted(set(re.findall(r"\b\w+\.py\b", page)) - there) == []


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
