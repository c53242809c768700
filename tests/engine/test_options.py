"""Options of a named entry are checked as inputs are: `OptionsOf`."""

from __future__ import annotations

import pytest

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph.plugins.manager import load_plugins
from nodegraph.workflow.json_schema import workflow_schema

PLUGIN = """
from typing import Annotated, Literal
from nodegraph import Choice, OptionsOf, Range, hookimpl, hookspec, node

class Hooks:
    @staticmethod
    @hookspec
    def register_filters(register):
        "Register filters."

def blur(image, *, radius: Annotated[float, Range(0, 10)] = 2.0, border: Literal["small", "large"] = "small", mask=None):
    return f"blur {radius} {border} {mask}"

def invert(image):
    return "invert"

@node("Filter")
def filter(
    filter: Annotated[object, Choice("filters")] = "blur", options: Annotated[dict | None, OptionsOf("filter")] = None
) -> str:
    return filter("image", **(options or {}))

@hookimpl
def add_hooks(pluginmanager):
    pluginmanager.add_hookspecs(Hooks)

@hookimpl
def register_nodes(register):
    register(filter)

@hookimpl
def register_filters(register):
    register("blur", blur, aliases=("soften",))
    register("invert", invert)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "filters.py").write_text(PLUGIN)
    return tmp_path


def filtered(folder, **inputs):
    workflow = Workflow("w")
    filter = workflow.add("Filter", **inputs)
    result = Engine(cache_dir=folder / "cache", plugin_dirs=[folder / "plugins"]).run(workflow, targets=[filter])
    return result[filter], list(result.ran)


def test_options_reach_the_entry_and_its_key(folder):
    assert filtered(folder, options={"radius": 3, "border": "large"}) == ("blur 3.0 large None", ["filter"])
    assert filtered(folder, filter="soften", options={"radius": 3.0, "border": "large"})[1] == []  # the same by another name
    assert filtered(folder, filter="invert") == ("invert", ["filter"])


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            {"options": {"radus": 3}},
            r"\[E104\] blur has no option 'radus' \('options' of node .*\). Did you mean 'radius'\?",
        ),
        ({"options": {"radius": 11}}, r"\[E111\] option 'radius' of blur .*: expected a value from 0 to 10, found 11"),
        (
            {"options": {"radius": "long"}},
            r"\[E110\] option 'radius' of blur .*: expected a number, found 'long'. Its default is 2.0",
        ),
        ({"options": {"border": "huge"}}, r"option 'border' of blur .*: expected one of 'small', 'large'; found 'huge'"),
        ({"filter": "invert", "options": {"mask": True}}, r"invert has no option 'mask' .*It has no options"),
    ],
)
def test_wrong_options_fail_before_the_run(folder, inputs, message):
    with pytest.raises(WorkflowError, match=message):
        filtered(folder, **inputs)


def test_schema_completes_options_of_the_entry(folder):
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft7Validator(workflow_schema(load_plugins([folder / "plugins"])))

    def fits(**inputs):
        return validator.is_valid({"nodegraph": 1, "nodes": {"filter": {"use": "Filter", **inputs}}})

    assert fits()
    assert fits(options={"radius": 3})
    assert fits(filter="soften", options={"border": "large"})
    assert not fits(options={"radus": 3})
    assert not fits(options={"radius": 30})
    assert fits(filter="invert", options={})
    assert not fits(filter="invert", options={"radius": 3})
