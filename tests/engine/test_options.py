"""Options of a named entry are checked as inputs are: `OptionsOf`."""

from __future__ import annotations

import pytest

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph.graph.overrides import Override
from nodegraph.plugins.manager import load_plugins
from nodegraph.workflow.editors.json_schema import workflow_schema

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


OPTION = "nodegraph: 1\nnodes: {f: {use: Filter, options: {radius: 3.0}}}\noutputs: {f: {from: $f}}\n"
OPTION_PARAM = (
    "nodegraph: 1\nparams: {o: {default: {radius: 3}}}\nnodes: {f: {use: Filter, options: $params.o}}\noutputs: {f: $f}\n"
)


@pytest.mark.parametrize("text", [OPTION, OPTION_PARAM])
def test_one_option_can_be_set(folder, text):
    engine = Engine(cache_dir=folder / "cache", plugin_dirs=[folder / "plugins"])
    workflow = Workflow.parse(text)
    set_border = Override("f.options.border", "large", text=True)
    graph = engine.check(workflow, overrides=[set_border, Override("f.options.radius", "4", text=True)])
    assert graph.nodes["f"].inputs["options"].value == {"radius": 4.0, "border": "large"}
    assert graph.resolved.nodes["f"].inputs["options"] == {"radius": 4, "border": "large"}
    assert engine.check(workflow, params={"f.options.radius": 5}).nodes["f"].inputs["options"].value == {"radius": 5.0}
    whole = Override("f.options", "{border: large}", text=True)
    assert engine.check(workflow, overrides=[whole, set_border]).nodes["f"].inputs["options"].value == {"border": "large"}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("f.options.radios", "1", "--set f.options.radios: blur has no option 'radios'"),
        ("f.options.radius", "11", "--set f.options.radius: option 'radius' of blur"),
        ("f.options.radius", "[", "--set f.options.radius: "),
        ("f.option.radius", "1", "--set f.option.radius: Filter has no input 'option'"),
    ],
)
def test_wrong_single_options_are_named(folder, name, value, message):
    engine = Engine(cache_dir=folder / "cache", plugin_dirs=[folder / "plugins"])
    with pytest.raises(WorkflowError) as caught:
        engine.check(Workflow.parse(OPTION), overrides=[Override(name, value, text=True)])
    assert message in str(caught.value)
