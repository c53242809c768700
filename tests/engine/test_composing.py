"""Workflows that use others, composed in Python: `use`, `params`, `outputs` and `with_`."""

from __future__ import annotations

import re

import pytest

from nodegraph import Engine, Workflow, WorkflowError

UPPER = """
nodegraph: 1
params: {text: {type: text}, times: 2}
nodes: {again: {use: Repeat, text: $params.text, times: $params.times}, loud: {use: Slow, text: $again, steps: 1}}
outputs: {loud: {from: $loud}, plain: {from: $again}}
"""


@pytest.fixture
def engine(make_engine) -> Engine:
    return make_engine(cache_dir=None)


@pytest.fixture
def upper(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "upper.yaml"
    path.write_text(UPPER)
    return path


def test_a_file_is_a_function_over_handles(engine, upper):
    w = Workflow("main")
    w.param("text", "ab")
    one = w.use("upper.yaml", text=w.params.text)
    two = w.use(upper, name="two", text=one.loud, times=1)
    many = w.use(upper, text="x", each={"times": [1, 2]})
    w.output("end", two.loud)
    w.output("many", many.plain)
    result = engine.run(w)
    assert (result["end"], result["many"]) == ("ABAB", ["x", "xx"])
    assert result[one.plain] == "abab"
    assert w.nodes["upper"].type == "./upper.yaml"
    assert repr(w.outputs.end) == "<two.loud>"
    assert engine.run(Workflow.parse(w.dump(), base=w.base))["end"] == "ABAB"


def test_a_workflow_made_in_python_is_one_of_the_same_file(engine):
    inner = Workflow("twice")
    text = inner.param("text", type="text")
    inner.output("text", inner.add("Repeat", name="r", text=text))
    w = Workflow("main")
    end = w.use(inner, name="b", text=w.use(inner, name="a", text="x").text)
    w.output("end", end.text)
    assert [node.type for node in w.nodes.values()] == ["#twice", "#twice"]
    assert engine.run(w)["end"] == "xxxx"
    assert engine.run(Workflow.parse(w.dump()))["end"] == "xxxx"


def test_mistakes_fail_at_the_line_with_a_suggestion(upper):
    w = Workflow("main")
    with pytest.raises(ValueError, match=re.escape("workflow 'upper' has no param 'tect'. Did you mean 'text'?")):
        w.use(upper, tect="x")
    with pytest.raises(ValueError, match=re.escape("workflow 'upper' has no param 'time'. Did you mean 'times'?")):
        w.use(upper, text="x", each={"time": [1]})
    with pytest.raises(ValueError, match=re.escape("workflow 'upper' needs a value for 'text'. Add text=...")):
        w.use(upper)
    with pytest.raises(WorkflowError, match=re.escape("there is no workflow file nothing.yaml")):
        w.use("nothing.yaml")
    assert not w.nodes
    used = w.use(upper, text="x")
    with pytest.raises(AttributeError, match=re.escape("node 'upper' has no output 'lod'. Did you mean 'loud'?")):
        _ = used.lod
    with pytest.raises(AttributeError, match=re.escape("the workflow has no param 'x'")):
        _ = w.params.x
    with pytest.raises(AttributeError, match=re.escape("the workflow has no output 'x'")):
        _ = w.outputs.x


def test_with_is_a_changed_copy(engine, upper):
    w = Workflow.load(upper).with_({"text": "a"})
    changed = w.with_({"text": "b", "loud.steps": 2, "again.times": 3})
    assert (engine.run(w)["loud"], engine.run(changed)["loud"]) == ("AA", "BBB")
    assert w.nodes["loud"].inputs["steps"] == 1
    with pytest.raises(ValueError, match=re.escape("the workflow has no param or input 'txt'. Did you mean 'text'?")):
        w.with_({"txt": 1})


def test_a_workflow_of_an_engine_knows_the_node_types(engine):
    w = engine.workflow("main")
    with pytest.raises(ValueError, match=r"there is no node type 'Repaet'. Did you mean 'Repeat'\?"):
        w.add("Repaet", text="x")
    with pytest.raises(ValueError, match=r"Repeat has no input 'tmes'. Did you mean 'times'\?"):
        w.add("Repeat", text="x", tmes=3)
    with pytest.raises(ValueError, match=r"Repeat has no input 'txt'. Did you mean 'text'\?"):
        w.add("Repeat", each={"txt": ["x"]})
    assert not w.nodes
    halves = w.add("Split", name="halves", text="abcd")
    with pytest.raises(AttributeError, match=r"node 'halves' has no output 'lft'. Did you mean 'left'\?"):
        halves.lft  # noqa: B018
    with pytest.raises(KeyError, match=r"has no output 'rigth'. Did you mean 'right'\?"):
        w["halves.rigth"]
    with pytest.raises(AttributeError, match="the workflow has no param 'sede'"):
        w.params.sede  # noqa: B018
    with pytest.raises(ValueError, match="Repeat has no input 'txt'"):
        w.replace(halves, "Repeat", txt="x")
    with pytest.raises(ValueError, match="Split has no input 'txt'"):
        w.replace("halves", txt="x")
    chosen = w.add("Switch", on="a", cases={"a": halves.left, "b": w["halves.right"]})
    w.output("o", w.add("Repeat", text=chosen))
    assert engine.run(w.with_({"repeat.times": 3}))["o"] == "ababab"
    assert w.with_({})["halves.left"]._port == "left"
