"""Options of a named entry are checked as inputs are: `OptionsOf`."""

from __future__ import annotations

import pytest

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph.plugins.manager import load_plugins
from nodegraph.workflow.json_schema import workflow_schema

TEA = """
from typing import Annotated, Literal
from nodegraph import Choice, OptionsOf, Range, hookimpl, hookspec, node

class Hooks:
    @staticmethod
    @hookspec
    def register_teas(register):
        "Offer teas."

def brew_green(water, *, minutes: Annotated[float, Range(0, 10)] = 2.0, cup: Literal["small", "large"] = "small", milk=None):
    return f"green {minutes} {cup} {milk}"

def brew_black(water):
    return "black"

@node("Brew")
def brew(
    tea: Annotated[object, Choice("teas")] = "green", options: Annotated[dict | None, OptionsOf("tea")] = None
) -> str:
    return tea("water", **(options or {}))

@hookimpl
def add_hooks(pluginmanager):
    pluginmanager.add_hookspecs(Hooks)

@hookimpl
def register_nodes(register):
    register(brew)

@hookimpl
def register_teas(register):
    register("green", brew_green, aliases=("sencha",))
    register("black", brew_black)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "tea.py").write_text(TEA)
    return tmp_path


def brewed(folder, **inputs):
    workflow = Workflow("tea")
    tea = workflow.add("Brew", **inputs)
    result = Engine(cache_dir=folder / "cache", plugin_dirs=[folder / "plugins"]).run(workflow, targets=[tea])
    return result[tea], list(result.ran)


def test_options_reach_the_entry_and_its_key(folder):
    assert brewed(folder, options={"minutes": 3, "cup": "large"}) == ("green 3.0 large None", ["brew"])
    assert brewed(folder, tea="sencha", options={"minutes": 3.0, "cup": "large"})[1] == []  # the same by another name
    assert brewed(folder, tea="black") == ("black", ["brew"])


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        (
            {"options": {"minuts": 3}},
            r"\[E104\] green has no option 'minuts' \('options' of node .*\). Did you mean 'minutes'\?",
        ),
        ({"options": {"minutes": 11}}, r"\[E111\] option 'minutes' of green .*: expected a value from 0 to 10, found 11"),
        (
            {"options": {"minutes": "long"}},
            r"\[E110\] option 'minutes' of green .*: expected a number, found 'long'. Its default is 2.0",
        ),
        ({"options": {"cup": "huge"}}, r"option 'cup' of green .*: expected one of small, large; found 'huge'"),
        ({"tea": "black", "options": {"milk": True}}, r"black has no option 'milk' .*It has no options"),
    ],
)
def test_wrong_options_fail_before_the_run(folder, inputs, said):
    with pytest.raises(WorkflowError, match=said):
        brewed(folder, **inputs)


def test_schema_completes_options_of_the_entry(folder):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft7Validator(workflow_schema(load_plugins([folder / "plugins"])))

    def fits(**inputs):
        return validator.is_valid({"nodegraph": 1, "nodes": {"tea": {"use": "Brew", **inputs}}})

    assert fits()
    assert fits(options={"minutes": 3})
    assert fits(tea="sencha", options={"cup": "large"})
    assert not fits(options={"minuts": 3})
    assert not fits(options={"minutes": 30})
    assert fits(tea="black", options={})
    assert not fits(tea="black", options={"minutes": 3})
