"""Workflows that are changed after they were made: nodes replaced and removed, files read, cells of a notebook run again."""

from __future__ import annotations

from typing import Any

import pytest

from nodegraph import Engine, Workflow
from nodegraph.workflow.definitions import Link, ParamRef

TEXT = """
nodegraph: 1
params: {word: hey, unused: 1}
nodes:
  word: {use: Text, value: $params.word}
  twice: {use: Fold, text: $word}
  halves: {use: Many, numbers: [1, 2], text: $twice}
outputs:
  result: {from: $twice}
"""


@pytest.fixture
def workflow() -> Workflow:
    return Workflow.parse(TEXT)


def test_nodes_of_a_file_have_handles(workflow: Workflow) -> None:
    workflow.output("word", workflow["word"])
    workflow.add("Fold", name="more", text=workflow["twice.output"])
    assert workflow.outputs["word"].link == Link("word")
    assert workflow.nodes["more"].inputs == {"text": Link("twice", "output")}
    with pytest.raises(KeyError, match=r"the workflow has no node 'twise'\. Did you mean 'twice'"):
        workflow["twise"]


def test_replaced_node_keeps_its_links_and_place(workflow: Workflow) -> None:
    handle = workflow.replace("word", "Make", text="x")
    assert (repr(handle), list(workflow.nodes)) == ("<word>", ["word", "twice", "halves"])
    assert (workflow.nodes["word"].type, workflow.nodes["word"].inputs) == ("Make", {"text": "x"})
    assert workflow.nodes["twice"].inputs == {"text": Link("word")}
    assert str(workflow.nodes["word"].where).startswith("tests/engine/test_editing.py:")


def test_replaced_inputs_leave_the_others(workflow: Workflow) -> None:
    workflow.replace(workflow["halves"], text="new")
    node = workflow.nodes["halves"]
    assert (node.type, node.inputs) == ("Many", {"numbers": [1, 2], "text": "new"})
    assert (str(node.location("numbers")), str(node.location("text"))[:5]) == ("<text>:7:32", "tests")


def test_node_that_is_needed_is_not_removed(workflow: Workflow) -> None:
    with pytest.raises(ValueError, match=r"node 'word' is needed by node 'twice'\. Replace or remove that first"):
        workflow.remove("word")
    with pytest.raises(ValueError, match="node 'twice' is needed by node 'halves', output 'result'"):
        workflow.remove(workflow["twice"])
    with pytest.raises(ValueError, match="param 'word' is needed by node 'word'"):
        workflow.remove_param("word")
    assert list(workflow.nodes) == ["word", "twice", "halves"]


def test_nodes_params_and_outputs_are_removed(workflow: Workflow) -> None:
    twice = workflow["twice"]
    workflow.remove("halves")
    workflow.remove_output("result")
    workflow.remove(twice)
    workflow.remove_param("unused")
    assert (list(workflow.nodes), list(workflow.params), workflow.outputs) == (["word"], ["word"], {})
    with pytest.raises(ValueError, match="<twice> is a node that was removed"):
        workflow.add("Fold", text=twice)
    for remove in (workflow.remove, workflow.remove_param, workflow.remove_output):
        with pytest.raises(KeyError, match="the workflow has no"):
            remove("missing")


def test_failed_calls_leave_the_workflow_unchanged(workflow: Workflow) -> None:
    before = workflow.dump()
    stranger = Workflow().add("Blob")
    for call in (
        lambda: workflow.add("Fold", name="new", text=[1, stranger]),
        lambda: workflow.add("Fold", name="word", text="x"),
        lambda: workflow.add("Fold", use="x"),
        lambda: workflow.replace("word", "Fold", text=stranger),
        lambda: workflow.replace("word", text=stranger),
        lambda: workflow.replace(stranger, text="x"),
        lambda: workflow.replace(workflow["word.output"], text="x"),
        lambda: workflow.remove(stranger),
        lambda: workflow.param("word", 2),
        lambda: workflow.output("result", workflow["word"]),
        lambda: workflow.output("new", stranger),
    ):
        with pytest.raises(ValueError):
            call()
    assert workflow.dump() == before


CELL = """
word = workflow.param("word", WORD)
text = workflow.add("Text", name="text", value=word)
workflow.output("text", text)
"""


def test_cell_of_a_notebook_can_run_again(engine: Engine) -> None:
    names: dict[str, Any] = {"__name__": "__main__", "workflow": Workflow()}
    for word in ("one", "two"):
        exec(compile(CELL.replace("WORD", repr(word)), "/tmp/ipykernel_1/1.py", "exec"), names)
        assert engine.run(names["workflow"])["text"] == word
    assert names["workflow"].nodes["text"].inputs == {"value": ParamRef("word")}
    with pytest.raises(ValueError, match="node 'params': this name is taken"):
        exec('workflow.add("Text", name="params")', names)


def test_file_runs_by_its_path(engine: Engine, tmp_path) -> None:
    path = tmp_path / "w.yaml"
    path.write_text(TEXT)
    assert engine.run(str(path), params={"word": "HO"})["result"] == "ho"
    assert engine.start(path).result()["result"] == "hey"
    assert list(engine.check(path).nodes) == ["word", "twice", "halves"]
    assert engine.plan(path).names("cached") == ["twice"]


def test_everything_public_has_a_useful_line(engine: Engine, workflow: Workflow) -> None:
    result = engine.run(workflow)
    handle = engine.start(workflow)
    handle.result()
    plugins = engine.plugins
    shown = {
        engine: f"<Engine: device auto, dtype auto, cache {engine.cache_dir}>",
        workflow: "<Workflow workflow: 3 nodes, 2 params, 1 output>",
        result: f"<Result of workflow: done in {result.seconds:.2f} s, 1 pruned, 2 ran>",
        handle: f"<RunHandle {handle.run}: done>",
        engine.plan(workflow): "<Plan of workflow: 0 to run, 1 cached, 2 not needed>",
        engine.check(workflow): "<Graph of workflow: nodes word, twice, halves; outputs result>",
        plugins.nodes: f"<Registry nodes: {len(list(plugins.nodes.entries()))} entries>",
        plugins.nodes.get("Fold"): "<Entry Fold of plugin stub_pack>",
        plugins.nodes.get("Fold").value: "<NodeSpec Fold(text) -> output>",
    }
    assert {thing: repr(thing) for thing in shown} == shown
    report = result.nodes["halves"]
    assert repr(report) == f"<NodeReport: {report.status}, {report.seconds:.2f} s, key {report.key[:12]}>"
    assert "stub_pack" in repr(plugins)
