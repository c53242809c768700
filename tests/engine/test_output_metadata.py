"""Outputs hold the workflow that made them, whole, and are made again from it."""

from __future__ import annotations

import json
import re

import pytest

from nodegraph import WorkflowError
from nodegraph.graph.load import load_workflow
from nodegraph.run.outputs.whole import whole_workflow
from nodegraph.workflow.dump import dump
from nodegraph.workflow.output_metadata import read_metadata
from nodegraph.workflow.workflow import Workflow

INNER = """
nodegraph: 1
params: {seed: random, path: near.txt}
nodes:
  drawn: {use: Draw, seed: $params.seed}
  near: {use: Contents, path: $params.path}
  deep: {use: "#deep"}
outputs: {drawn: {from: $drawn}, near: {from: $near}, deep: {from: $deep}}
workflows:
  deep:
    params: {seed: random}
    nodes: {drawn: {use: Draw, seed: $params.seed}, far: {use: Contents, path: ../far.txt}}
    outputs: {number: {from: $drawn}}
"""
OUTER = """
nodegraph: 1
nodes:
  small: {use: parts/inner.yaml, each: {seed: [1, random]}}
  same: {use: "#deep", path: far.txt}
outputs: {drawn: {from: $small.drawn}, near: {from: $small.near}, deep: {from: $small.deep}, same: {from: $same}}
workflows:
  deep:
    params: {path: x}
    nodes: {far: {use: Contents, path: $params.path}}
    outputs: {text: {from: $far}}
""".replace("use: parts", "use: ./parts")


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "far.txt").write_text("far")
    (tmp_path / "parts/near.txt").write_text("near")
    (tmp_path / "parts/inner.yaml").write_text(INNER)
    (tmp_path / "outer.yaml").write_text(OUTER)
    return tmp_path


def values(result):
    return {name: result[name] for name in ("drawn", "near", "deep", "same")}


def test_the_whole_workflow_means_the_same_in_one_file(engine, folder):
    changes = {"small[0]/deep/drawn.other": 5, "small.path": str(folder / "parts/near.txt")}
    first = engine.run(folder / "outer.yaml", params=changes)
    text = dump(whole_workflow(first.graph))
    assert "yaml" not in text
    assert re.findall(r"^  (\w+):$", text.partition("workflows:")[2], re.MULTILINE) == ["inner", "deep", "deep_2"]
    (folder / "parts/inner.yaml").unlink()
    again = engine.run(Workflow.parse(text, base=folder))
    assert values(again) == values(first)
    assert again.graph.seeds == {}
    assert {name: node.key for name, node in again.nodes.items()} == {name: node.key for name, node in first.nodes.items()}
    assert dump(whole_workflow(again.graph)) == text


BAD = {
    "folder: [1]": "'folder' must be text",
    "folder: ~nobody_of_this_name/x": "far.txt",
}


@pytest.mark.parametrize("line", BAD)
def test_a_wrong_folder_is_an_error(engine, tmp_path, line):
    (tmp_path / "x.yaml").write_text(
        f"nodegraph: 1\nnodes: {{a: {{use: '#b'}}}}\noutputs: {{a: {{from: $a}}}}\nworkflows:\n  b:\n    {line}\n"
        "    nodes: {far: {use: Contents, path: far.txt}}\n    outputs: {far: {from: $far}}\n"
    )
    with pytest.raises(WorkflowError, match=BAD[line]):
        engine.check(tmp_path / "x.yaml")


def test_values_for_nodes_that_do_not_exist_are_errors(engine, tmp_path):
    (tmp_path / "x.yaml").write_text("nodegraph: 1\nnodes: {a: {use: Number}}\noutputs: {a: {from: $a}}\nvalues: {b/c.d: 1}\n")
    with pytest.raises(WorkflowError, match=r"\[E120\]"):
        engine.check(tmp_path / "x.yaml")


def test_files_that_hold_no_metadata_are_read_as_before(plugins, tmp_path):
    for name, content in {
        "a.png": b"",
        "b.png": b"\x89PNG\r\n\x1a\n\0",
        "c.bin": b"\0" * 9,
        "d.blob": json.dumps({}).encode(),
    }.items():
        (tmp_path / name).write_bytes(content)
        assert read_metadata(tmp_path / name, plugins.codecs) == {}
        with pytest.raises(WorkflowError):
            load_workflow(tmp_path / name, plugins)
