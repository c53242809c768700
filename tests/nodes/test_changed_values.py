"""What a node, a reader or a thread does to an object changes nothing that others compute from, and nothing that is stored."""

from __future__ import annotations

import textwrap

import pytest
import torch

from nodegraph import Engine, Workflow
from nodegraph_nodes.types import Image
from tests.support.slow import slow_after

PLUGIN = """
import threading
from nodegraph import hookimpl, node
from nodegraph_nodes.types import Image

GO, DONE = threading.Event(), threading.Event()
LEAKED = []

@node("Grey")
def grey(level: float, size: int = 4) -> Image:
    import torch
    image = Image(torch.full((1, size, size, 3), level))
    LEAKED.append(image)
    return image

@node("Spoil")
def spoil(image: Image, how: str) -> float:
    exec(how)
    return 0.0

@node("Mean")
def mean(image: Image, after: float = 0.0) -> float:
    return float(image.pixels.mean())

@node("Leaks")
def leaks(level: float) -> Image:
    import torch
    image = Image(torch.full((1, 4, 4, 3), level))

    def change():
        GO.wait(120)
        image.pixels.zero_()
        DONE.set()

    threading.Thread(target=change).start()
    return image

@node("Afterwards")
def afterwards(image: Image) -> float:
    GO.set()
    DONE.wait(120)
    return float(image.pixels.mean())

@node("Numbers")
def numbers(first: int) -> list[int]:
    return [first, 2, 3]

@node("Append")
def append(numbers: list[int]) -> int:
    numbers.append(7)
    return len(numbers)

@node("Pictures")
def pictures(level: float) -> list[Image]:
    import torch
    return [Image(torch.full((1, 2, 2, 3), level)) for _ in range(2)]

@node("SpoilFirst")
def spoil_first(pictures: list[Image]) -> float:
    pictures[0].pixels.zero_()
    return 0.0

@node("MeanOfFirst")
def mean_of_first(pictures: list[Image], after: float = 0.0) -> float:
    return float(pictures[0].pixels.mean())

@hookimpl
def register_nodes(register):
    for function in (grey, spoil, mean, leaks, afterwards, numbers, append, pictures, spoil_first, mean_of_first):
        register(function)
"""

CHANGES = {
    "in place": "image.pixels.mul_(0)",
    "through numpy": "image.pixels.numpy()[:] = 0",
    "through data": "image.pixels.data.mul_(0)",
    "through a view": "image.pixels[0, 0].zero_()",
    "another tensor": "object.__setattr__(image, 'pixels', image.pixels * 0)",
    "its storage": "image.pixels.untyped_storage().fill_(0)",
}


@pytest.fixture(params=["directory", "memory"])
def make_engine(request, tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "spoiling.py").write_text(textwrap.dedent(PLUGIN))
    cache = tmp_path / "cache" if request.param == "directory" else None
    return lambda: Engine(cache, plugin_dirs=[tmp_path / "plugins"])


def plugin(engine):
    return engine.plugins.manager.get_plugin("spoiling")


@pytest.mark.parametrize("how", slow_after(4, CHANGES.values()), ids=CHANGES)
def test_changed_input_changes_nothing_else(make_engine, how):
    engine = make_engine()
    workflow = Workflow("w")
    grey = workflow.add("Grey", name="grey", level=0.5)
    spoiled = workflow.add("Spoil", name="spoiled", image=grey, how=how)
    workflow.output("mean", workflow.add("Mean", name="mean", image=grey, after=spoiled))
    workflow.output("grey", grey)
    result = engine.run(workflow)
    assert result["mean"] == 0.5
    assert float(result["grey"].pixels.min()) == 0.5
    clean = Workflow("clean")
    clean.output("mean", clean.add("Mean", name="mean", image=clean.add("Grey", name="grey", level=0.5), after=0.0))
    assert engine.run(clean)["mean"] == 0.5


def test_object_that_the_producer_keeps_is_not_passed_on(make_engine):
    engine = make_engine()
    workflow = Workflow("w")
    grey = workflow.add("Grey", name="grey", level=0.5)
    workflow.output("grey", grey)
    engine.run(workflow)
    plugin(engine).LEAKED[0].pixels.zero_()
    workflow.output("mean", workflow.add("Mean", name="mean", image=grey))
    result = engine.run(workflow)
    assert result["mean"] == 0.5
    assert result.cached == ("grey",)


def test_thread_that_outlives_its_node_changes_nothing(make_engine):
    engine = make_engine()
    workflow = Workflow("w")
    leaks = workflow.add("Leaks", name="leaks", level=0.5)
    workflow.output("mean", workflow.add("Afterwards", name="after", image=leaks))
    workflow.output("image", leaks)
    result = engine.run(workflow)
    assert result["mean"] == 0.5
    assert float(result["image"].pixels.mean()) == 0.5


def test_lists_and_nested_values_are_each_readers_own(make_engine):
    engine = make_engine()
    workflow = Workflow("w")
    numbers = workflow.add("Numbers", name="numbers", first=1)
    workflow.output("one", workflow.add("Append", name="one", numbers=numbers))
    workflow.output("two", workflow.add("Append", name="two", numbers=numbers))
    literal = [1, 2]
    workflow.output("literal", workflow.add("Append", name="literal", numbers=literal))
    workflow.output("same", workflow.add("Append", name="same", numbers=literal))
    pictures = workflow.add("Pictures", name="pictures", level=0.5)
    spoiled = workflow.add("SpoilFirst", name="spoiled", pictures=pictures)
    workflow.output("mean", workflow.add("MeanOfFirst", name="mean", pictures=pictures, after=spoiled))
    result = engine.run(workflow)
    assert [result[name] for name in ("one", "two", "literal", "same", "mean")] == [4, 4, 3, 3, 0.5]
    assert literal == [1, 2]


def test_results_that_a_user_changes_stay_the_same(make_engine):
    engine = make_engine()
    workflow = Workflow("w")
    grey = workflow.add("Grey", name="grey", level=0.5)
    workflow.output("grey", grey)
    workflow.output("numbers", workflow.add("Numbers", name="numbers", first=1))
    result = engine.run(workflow)
    result["grey"].pixels.zero_()
    result["numbers"].append(9)
    assert result["numbers"] == [1, 2, 3]
    again = engine.run(workflow)
    assert again.ran == ()
    assert again["numbers"] == [1, 2, 3]
    assert float(again["grey"].pixels.min()) == 0.5
    workflow.output("mean", workflow.add("Mean", name="mean", image=grey))
    assert engine.run(workflow)["mean"] == 0.5


def test_value_given_in_python_may_change_only_between_runs(make_engine):
    engine = make_engine()
    image = Image(torch.full((1, 4, 4, 3), 0.5))
    workflow = Workflow("w")
    spoiled = workflow.add("Spoil", name="spoiled", image=image, how="image.pixels.zero_()")
    workflow.output("mean", workflow.add("Mean", name="mean", image=image, after=spoiled))
    assert engine.run(workflow)["mean"] == 0.5
    assert float(image.pixels.min()) == 0.5
    image.pixels.fill_(0.25)
    assert engine.run(workflow)["mean"] == 0.25


def test_value_changed_by_its_owner_during_the_run_is_an_error(make_engine):
    engine = make_engine()
    image = Image(torch.full((1, 4, 4, 3), 0.5))
    workflow = Workflow("w")
    first = workflow.add("Mean", name="first", image=image)
    changed = workflow.add("Spoil", name="changed", image=workflow.add("Grey", name="grey", level=first), how="CHANGE()")
    workflow.output("first", first)
    workflow.output("second", workflow.add("Mean", name="second", image=image, after=changed))
    plugin(engine).CHANGE = image.pixels.zero_  # as another thread of the program could do
    result = engine.run(workflow, raise_errors=False)
    assert "a value that was given in Python was changed during the run" in str(result.error)
    assert {name: result.nodes[name].status for name in ("first", "second")} == {"first": "ran", "second": "failed"}
    assert engine.run(workflow)["second"] == 0.0
