"""Building workflows in Python equals loading them from YAML."""

from __future__ import annotations

import copy
import inspect
from pathlib import Path

import pytest

from nodegraph import Workflow
from nodegraph.workflow.definitions import Link, ParamRef, references
from nodegraph.workflow.handles import NodeHandle, PortHandle


def line_here() -> int:
    """The line that calls this."""
    frame = inspect.currentframe()
    assert frame is not None
    assert frame.f_back is not None
    return frame.f_back.f_lineno


def test_python_and_yaml_make_equal_workflows():
    made = Workflow("result")
    scale = made.param("scale", 3.5, type="float", min=0, max=10, help="how large")
    loaded = made.add("Load", path="file")
    applied = made.add("Apply", name="blob", model=loaded.model, scale=scale, notes=[loaded.log, 1], options={"amount": scale})
    made.output("result", applied, save="{workflow}")
    read = Workflow.parse("""\
nodegraph: 1
name: result
params:
  scale: {default: 3.5, type: float, min: 0, max: 10, help: how large}
nodes:
  load: {use: Load, path: file}
  blob: {use: Apply, model: $load.model, scale: $params.scale, notes: [$load.log, 1], options: {amount: $params.scale}}
outputs:
  result: {from: $blob, save: "{workflow}"}
""")
    assert read.dump() == made.dump()
    assert {n: (d.type, d.inputs) for n, d in read.nodes.items()} == {n: (d.type, d.inputs) for n, d in made.nodes.items()}


def test_handles_become_references():
    workflow = Workflow()
    blob = workflow.add("Blob")
    assert repr(blob) == "<blob>"
    assert repr(blob.handle) == "<blob.handle>"
    assert isinstance(blob, NodeHandle)
    assert isinstance(blob.handle, PortHandle)
    assert repr(Link("a")) == str(Link("a")) == "$a"
    assert repr(Link("a", "b")) == "$a.b"
    assert str(ParamRef("p")) == "$params.p"
    assert list(references([1, {"x": [Link("a")]}, ParamRef("p")])) == [Link("a"), ParamRef("p")]
    with pytest.raises(AttributeError):
        _ = blob.__wrapped__
    assert repr(copy.copy(blob)) == "<blob>"


def test_text_in_python_is_never_a_reference():
    workflow = Workflow()
    workflow.add("Say", text="$blob")
    assert Workflow.parse(workflow.dump()).nodes["say"].inputs == {"text": "$blob"}


@pytest.mark.parametrize(
    ("type", "name"),
    [
        ("LoadImage", "load_image"),
        ("VAEEncode", "vae_encode"),
        ("UNetDenoise", "unet_denoise"),
        ("Noise", "noise"),
        ("CLIP", "clip"),
        ("Blend2Images", "blend2_images"),
        ("my node", "my_node"),
        ("3D", "_d"),
        ("", "node"),
        ("Über", "_ber"),
        ("Params", "params_2"),
    ],
)
def test_nodes_are_named_after_their_type(type, name):
    workflow = Workflow()
    workflow.add(type)
    assert list(workflow.nodes) == [name]
    assert list(Workflow.parse(workflow.dump()).nodes) == [name]


def test_second_node_of_a_type_gets_a_number():
    workflow = Workflow()
    for _ in range(3):
        workflow.add("Blob")
    workflow.add("Blob", name="blob_5")
    workflow.add("Blob")
    workflow.add("Blob")
    assert list(workflow.nodes) == ["blob", "blob_2", "blob_3", "blob_5", "blob_4", "blob_6"]


def test_inputs_are_copied():
    workflow = Workflow()
    values = [1, {"a": [2]}]
    workflow.add("Sum", values=values)
    values.append(3)
    values[1]["a"].append(4)
    assert workflow.nodes["sum"].inputs["values"] == [1, {"a": [2]}]


def test_every_definition_has_its_line():
    workflow = Workflow()
    blob = workflow.add("Blob")
    here = line_here()
    workflow.param("p", 1)
    workflow.output("o", blob)
    file = Path(__file__).relative_to(Path.cwd()) if Path(__file__).is_relative_to(Path.cwd()) else Path(__file__)
    assert str(workflow.nodes["blob"].where) == f"{file}:{here - 1}:1"
    assert str(workflow.nodes["blob"].location("anything")) == f"{file}:{here - 1}:1"
    assert str(workflow.params["p"].where) == f"{file}:{here + 1}:1"
    assert str(workflow.outputs["o"].where) == f"{file}:{here + 2}:1"


@pytest.mark.parametrize("name", ["", "a b", "1a", "a.b", "$a", "é", "-a", "a\n"])
def test_invalid_names_are_refused(name):
    workflow = Workflow()
    blob = workflow.add("Blob")
    rule = "this is not a valid name. Names are letters, digits, '_' and '-', and begin with a letter or '_'."
    with pytest.raises(ValueError) as caught:
        workflow.add("Blob", name=name)
    assert str(caught.value) == f"node '{name}': {rule}"
    with pytest.raises(ValueError, match="this is not a valid name"):
        workflow.param(name, 1)
    with pytest.raises(ValueError, match="this is not a valid name"):
        workflow.output(name, blob)
    assert (list(workflow.nodes), workflow.params, workflow.outputs) == (["blob"], {}, {})


def test_names_are_unique():
    workflow = Workflow()
    blob = workflow.add("Blob", name="a")
    workflow.param("a", 1)
    workflow.output("a", blob)
    with pytest.raises(ValueError, match=r"node 'a': this name is taken\. Choose another"):
        workflow.add("Blob", name="a")
    with pytest.raises(ValueError, match="node 'params': this name is taken"):
        workflow.add("Blob", name="params")
    with pytest.raises(ValueError, match="param 'a': this name is taken"):
        workflow.param("a", 1)
    with pytest.raises(ValueError, match="output 'a': this name is taken"):
        workflow.output("a", blob)


def test_links_stay_within_a_workflow():
    stranger = Workflow().add("Blob")
    workflow = Workflow()
    for value in (stranger, stranger.handle, [stranger], {"a": stranger}):
        with pytest.raises(ValueError, match=r"is a node of another workflow\. A link cannot leave its workflow"):
            workflow.add("Show", blob=value)
    with pytest.raises(ValueError, match="is a node of another workflow"):
        workflow.output("o", stranger)
    assert workflow.nodes == {}


@pytest.mark.parametrize("value", ["blob", None, 3, ParamRef("p")])
def test_output_must_be_a_node(value):
    with pytest.raises(ValueError, match=r"output 'o' is .*\. Expected a node that 'add' returned, or one of its outputs"):
        Workflow().output("o", value)


def test_relative_paths_need_a_base(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Workflow().base == tmp_path
    assert Workflow(base=Path("/base")).base == Path("/base")
    assert Workflow.parse("nodegraph: 1\nnodes:\n", base=Path("/base")).base == Path("/base")
