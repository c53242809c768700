"""Every hook, node type, sampler, schedule, guidance and command has a docstring, a place in the docs, and a test."""

from __future__ import annotations

import inspect
import re
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

import nodegraph
import nodegraph.plugins.hookspecs
import nodegraph_diffusion.guidance
import nodegraph_diffusion.sampling
import nodegraph_diffusion.schedules
import nodegraph_nodes.hookspecs
from docs import generate
from docs.package_diagram import PACKAGES
from nodegraph.cli import main
from nodegraph.plugins.manager import Plugins
from tests.support import usage

ROOT = Path(__file__).parent.parent
PLUGINS = Plugins()
HOOKS = {
    name: function
    for module in (nodegraph.plugins.hookspecs, nodegraph_nodes.hookspecs)
    for name, function in inspect.getmembers(module, inspect.isfunction)
    if hasattr(function, "nodegraph_spec")
}
THINGS = [(kind, entry) for kind in ("samplers", "schedules", "guidance") for entry in PLUGINS.registries[kind].entries()]


RECORD = """
@hookimpl
def {name}({parameters}):
    with open({file!r}, "a") as file:
        print({name!r}, file=file)
"""


@pytest.fixture(scope="module")
def called_hooks(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The hooks that a help text and a run call in a plugin that implements all of them."""
    folder = tmp_path_factory.mktemp("recorder")
    file = str(folder / "called")
    code = [
        RECORD.format(name=name, parameters=", ".join(inspect.signature(hook).parameters), file=file)
        for name, hook in HOOKS.items()
    ]
    (folder / "recorder.py").write_text("from nodegraph import hookimpl\n" + "".join(code))
    workflow = folder / "workflow.yaml"
    workflow.write_text("nodegraph: 1\nnodes: {mask: {use: Mask, path: mask.png}}\noutputs: {mask: {from: $mask}}\n")
    shutil.copy(ROOT / "workflows/examples/mask.png", folder)
    for words in (["check", str(folder / "recorder.py")], ["show", str(folder / "mask.png")]):
        ran = CliRunner().invoke(main, words, env={"NODEGRAPH_PLUGIN_DIR": str(folder)})
        assert ran.exit_code == 2, ran.output  # not a workflow
    for words in (["--help"], ["run", str(workflow), "--out", str(folder), "--cache-dir", str(folder / "cache")]):
        ran = CliRunner().invoke(main, words, env={"NODEGRAPH_PLUGIN_DIR": str(folder)}, catch_exceptions=False)
        assert ran.exit_code == 0, ran.output
    return set(Path(file).read_text().split())


@pytest.mark.parametrize("name", sorted(HOOKS))
def test_hooks_are_documented_and_tested(name, called_hooks):
    page = (ROOT / "docs/plugins.md").read_text(encoding="utf-8")
    assert inspect.getdoc(HOOKS[name])
    assert re.search(rf"^\| `{name}\(", page, re.MULTILINE), f"docs/plugins.md does not list {name}"
    assert name in called_hooks, f"a plugin that implements {name} is never called"
    assert name in usage.implemented_hooks(), f"no plugin in the tests implements {name}"


@pytest.mark.parametrize("entry", list(PLUGINS.nodes.entries()), ids=lambda entry: entry.name)
def test_nodes_are_documented_and_tested(entry):
    spec = entry.value
    assert spec.doc
    assert f"\n### {spec.name}\n" in (ROOT / "docs/nodes.md").read_text(encoding="utf-8")
    function = f"{spec.function.__module__}.{spec.function.__name__}"
    assert function in usage.called_functions(), f"no test calls {function}"


def test_foreign_names_are_listed_with_their_nodes():
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
def test_first_lines_are_short_sentences(kind, entry):
    doc = entry.value.doc if kind == "nodes" else inspect.getdoc(entry.value)
    line = doc.splitlines()[0]
    assert len(line) <= 80
    assert line.endswith("."), "a listing shows the first line alone: make it a sentence"


def test_command_lists_are_not_cut_off():
    groups = {words[:-1] for words in generate.commands()}
    assert {(), ("cache",), ("runs",)} <= groups
    for words in groups:
        listed = generate.printed(*words, "--help").partition("Commands:")[2]
        assert listed
        assert "..." not in listed


@pytest.mark.parametrize(("kind", "entry"), THINGS, ids=[f"{kind}-{entry.name}" for kind, entry in THINGS])
def test_samplers_schedules_and_guidance_are_documented(kind, entry):
    assert inspect.getdoc(entry.value)
    assert f"\n### {entry.name}\n" in (ROOT / "docs/nodes.md").read_text(encoding="utf-8")
    module, registry = {
        "samplers": (nodegraph_diffusion.sampling, "SAMPLERS"),
        "schedules": (nodegraph_diffusion.schedules, "SCHEDULES"),
        "guidance": (nodegraph_diffusion.guidance, "GUIDANCE"),
    }[kind]
    assert entry.name in getattr(module, registry)
    assert f"{module.__name__}.{registry}" in usage.kit_registries(), f"the kit's tests do not run all of {registry}"


def test_architecture_page_shows_every_package():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    folders = [path for room in PACKAGES.values() for path in room.iterdir() if (path / "__init__.py").exists()]
    assert [path.name for path in folders if path.name not in page] == []


def test_architecture_page_names_existing_files_only():
    page = (ROOT / "docs/architecture.md").read_text(encoding="utf-8")
    there = {path.name for folder in ("nodegraph", "nodes", "docs", "tests") for path in (ROOT / folder).rglob("*.py")}
    assert sorted(set(re.findall(r"\b\w+\.py\b", page)) - there) == []


@pytest.mark.parametrize("words", generate.commands(), ids=" ".join)
def test_commands_are_documented_and_tested(words):
    assert f"\n## nodegraph {' '.join(words)}\n" in (ROOT / "docs/cli.md").read_text(encoding="utf-8")
    assert any(run[: len(words)] == words for run in usage.run_commands()), f"no test runs 'nodegraph {' '.join(words)}'"


@pytest.mark.parametrize("name", generate.PAGES)
def test_generated_pages_are_up_to_date(name, monkeypatch):
    monkeypatch.delenv("NODEGRAPH_PLUGIN_DIR", raising=False)
    written = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert written == generate.PAGES[name](), "run: python docs/generate.py"


def test_public_names_are_listed():
    assert sorted(nodegraph.__all__) == [
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
    assert all(getattr(nodegraph, name) for name in nodegraph.__all__)
