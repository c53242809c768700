"""Explain: which nodes would run, and the first reason for each miss."""

from __future__ import annotations

import importlib.metadata
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow
from nodegraph.run.explain import differences
from tests.support.plugin_folders import STUB_PLUGINS


def workflow(weights: Path, **changes: Any) -> Workflow:
    built = Workflow("explained")
    text = built.add("Fold", name="folded", text=changes.get("text", "a cat"))
    model = built.add("Load", name="model", path=str(weights))
    described = built.add("Describe", name="described", model=model.model, text=text)
    upper = built.add("Filtered", name="upper", text=described)
    built.output("sum", built.add("Many", name="many", text=upper, numbers=changes.get("numbers", [1.5, 2])))
    return built


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_text("w")
    return path


def reasons(engine: Engine, workflow: Workflow, **options: Any) -> dict[str, tuple[str, str]]:
    return {e.node: (e.action, e.reason) for e in engine.explain(engine.plan(workflow, **options))}


def test_first_run_is_explained(engine: Engine, weights: Path) -> None:
    found = reasons(engine, workflow(weights))
    assert found["folded"] == ("run", "it has not run before in this workflow")
    assert found["model"] == ("run", "its result is kept in memory only, and a node below needs it")
    assert found["described"] == ("run", "text: 'folded' may return another value")


def test_file_of_a_workflow_is_explained(engine: Engine, weights: Path) -> None:
    path = weights.parent / "workflow.yaml"
    path.write_text(workflow(weights).dump())
    assert {each.node: (each.action, each.reason) for each in engine.explain(path)} == reasons(engine, workflow(weights))


def test_second_run_needs_no_node(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(workflow(weights))
    found = reasons(make_engine(), workflow(weights))
    assert found == {**dict.fromkeys(("folded", "model", "described", "upper"), ("pruned", "")), "many": ("cached", "")}


def test_changed_literal_is_named(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(workflow(weights))
    found = reasons(make_engine(), workflow(weights, text="a dog"))
    assert found["folded"] == ("run", "text: 'a cat' -> 'a dog'")
    assert found["described"] == ("run", "text: 'folded' may return another value")
    found = reasons(make_engine(), workflow(weights, numbers=[1.5, 3]))
    assert found["many"] == ("run", "numbers: [1.5, 2.0] -> [1.5, 3.0]")
    assert found["upper"] == ("cached", "")


def test_changed_file_is_named(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(workflow(weights))
    weights.write_text("v")
    assert reasons(make_engine(), workflow(weights))["model"] == ("run", "path file changed")


def test_forced_and_lost_results_are_named(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(workflow(weights))
    assert reasons(make_engine(), workflow(weights), force=["many"])["many"] == ("run", "it is forced, or below a forced node")
    make_engine().cache.clear()
    assert reasons(make_engine(), workflow(weights))["folded"] == ("run", "its result is no longer in the cache")


def test_missing_key_is_explained(engine: Engine) -> None:
    dice = Workflow("dice")
    dice.output("n", dice.add("Dice", name="dice"))
    assert reasons(engine, dice)["dice"] == ("run", "its type is not pure: it may return a different result each time")


def test_changed_code_is_named(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    folder = tmp_path / "plugins"
    folder.mkdir()
    file = folder / "shout.py"
    source = (
        "from nodegraph import hookimpl, node\n@node('Shout')\ndef shout(text: str) -> str:\n    return text + '!'\n"
        "@hookimpl\ndef register_nodes(register):\n    register(shout)\n"
    )
    file.write_text(source)

    def engine() -> Engine:
        return Engine(cache_dir=tmp_path / "cache", plugin_dirs=[folder])

    shout = Workflow("shout")
    shout.output("described", shout.add("Shout", name="shout", text="hey"))
    engine().run(shout)
    file.write_text(source.replace("'!'", "'!!'"))
    assert reasons(engine(), shout)["shout"] == ("run", "the code of plugin shout changed")


SHOUT = """
from nodegraph import hookimpl, node
from nodegraph.plugin_api import CpuBackend, Numerics

@node("Shout", version={version}, numeric={numeric})
def shout(text: str = "hey") -> str:
    return text + "!"

@hookimpl
def register_nodes(register):
    register(shout)

class Devices(CpuBackend):
    def resolve(self, device, dtype):
        return Numerics(device=device, dtype=dtype, name=f"{{device}} {{dtype}} torch 2.13")

@hookimpl
def register_backend(register):
    register(Devices())
"""

FILTER = """
from nodegraph import hookimpl

def shut(text):
    return text[:1]

@hookimpl
def register_filters(register):
    register("shut", shut)
"""


def of_one(type: str, **inputs: Any) -> Workflow:
    built = Workflow("one")
    built.output("out", built.add(type, name="node", **inputs))
    return built


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str], Path]:
    """Writes a plugin file into a plugin folder; returns the folder."""

    def write(name: str, code: str) -> Path:
        (tmp_path / "mine").mkdir(exist_ok=True)
        (tmp_path / "mine" / name).write_text(code)
        return tmp_path / "mine"

    return write


@pytest.mark.slow
def test_edited_registry_entry_is_named(tmp_path: Path, write: Callable[[str, str], Path]) -> None:
    def engine() -> Engine:
        return Engine(cache_dir=tmp_path / "cache", plugin_dirs=[STUB_PLUGINS, write("doors.py", source)])

    source = FILTER
    filtered = of_one("Filtered", text="hey", filter="shut")
    engine().run(filtered)
    assert reasons(engine(), filtered)["node"] == ("cached", "")
    source = FILTER.replace("[:1]", "[:2]")
    assert reasons(engine(), filtered)["node"] == ("run", "filter: shut: the code of plugin doors changed")
    other = of_one("Filtered", text="hey", filter="upper")
    assert reasons(engine(), other)["node"] == ("run", "filter: shut -> upper")


def test_changed_class_and_version_are_named(
    tmp_path: Path, write: Callable[[str, str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [])  # there can be only one backend

    def engine(version: int = 1, device: str = "cpu") -> Engine:
        folder = write("shout.py", SHOUT.format(version=version, numeric=True))
        return Engine(cache_dir=tmp_path / "cache", plugin_dirs=[folder], device=device, dtype="float32")

    shout = of_one("Shout")
    engine().run(shout)
    assert reasons(engine(), shout)["node"] == ("cached", "")
    reason = "numerics: cpu float32 torch 2.13 -> gpu float32 torch 2.13"
    assert reasons(engine(device="gpu"), shout)["node"] == ("run", reason)
    assert reasons(engine(version=2), shout)["node"] == ("run", "Shout version 1 -> 2")


def test_changed_plugin_version_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "loud_nodes.py").write_text(SHOUT.format(version=1, numeric=False))
    time.sleep(0.02)  # what is loaded at once may have been written after it was loaded: the file system's clock is too coarse
    monkeypatch.syspath_prepend(str(tmp_path / "site"))

    def engine(version: str) -> Engine:
        info = tmp_path / "site" / f"loud_nodes-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: loud_nodes\nVersion: {version}\n")
        (info / "entry_points.txt").write_text("[nodegraph]\nloud = loud_nodes\n")
        points = importlib.metadata.Distribution.at(info).entry_points
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
        return Engine(cache_dir=tmp_path / "cache")

    shout = of_one("Shout")
    engine("0.2").run(shout)
    assert reasons(engine("0.2"), shout)["node"] == ("cached", "")
    assert reasons(engine("0.3"), shout)["node"] == ("run", "loud_nodes 0.2 -> 0.3")


def test_nodes_above_are_named(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(workflow(weights))
    found = reasons(make_engine(), workflow(weights, text="a dog"))
    assert found["upper"] == ("run", "text: 'described' may return another value")
    assert found["many"] == ("run", "text: 'upper' may return another value")


def test_changed_form_of_an_input_is_named(make_engine: Callable[..., Engine], weights: Path) -> None:
    make_engine().run(workflow(weights))
    other = workflow(weights)
    other.add("Text", name="typed", value="a cat by w")
    again = Workflow.parse(other.dump().replace("text: $described", "text: $typed"), base=weights.parent)
    assert reasons(make_engine(), again)["upper"] == ("run", "text: $described.output -> $typed.output")


def test_only_changed_files_are_named() -> None:
    def form(**digests: str) -> dict[str, Any]:
        files = ["files", sorted([name, digest] for name, digest in digests.items())]
        return {"type": ["T", 1], "code": "p 1", "numeric": None, "inputs": {"model": files}}

    def first(old: dict[str, Any], new: dict[str, Any]) -> str:
        return next(differences(old, new))

    assert first(form(model="a"), form(model="b")) == "model file changed"
    assert first(form(unet="a", vae="a"), form(unet="b", vae="a")) == "model file changed: unet"
    assert first(form(unet="a", vae="a"), form(unet="b", vae="b")) == "model files changed: unet, vae"
    assert first(form(unet="a"), form(unet="a", vae="b")) == "model: other files"
