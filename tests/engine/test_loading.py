"""Reading a file for a set of plugins: mistakes in form beside mistakes in nodes, and files of other programs."""

from __future__ import annotations

import pytest

from nodegraph import WorkflowError
from nodegraph.graph.load import load_workflow
from nodegraph.plugins.manager import load_plugins
from tests.support.plugin_folders import STUB_PLUGINS

MISTAKES = """\
nodegraph: 1
description: 5
params: {low: {default: 1, min: 3, max: 2}, high: 3}
nodes:
  a: {use: Formt}
  b: {use: Format, text: x, text: y, txt: z}
  c: {use: Say, <<: {text: x}}
  d: {use: Say, text: $c}
  e: {use: Add, a: $params.low, b: $gone}
  gone: 5
outputs: {x: $a, y: 7}
"""

ANSWER = """
from nodegraph import hookimpl

@hookimpl
def foreign_file(data):
    return "a song. Sing it" if data.startswith(b"la la") else None
"""


@pytest.fixture
def refused(plugins, tmp_path, monkeypatch):
    """The problems of a file, one line each."""
    monkeypatch.chdir(tmp_path)

    def refused(content, plugins=plugins):
        path = tmp_path / "w.yaml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with pytest.raises(WorkflowError) as caught:
            load_workflow(path, plugins)
        return [str(problem) for problem in caught.value.problems]

    return refused


def test_a_mistake_in_form_hides_no_mistake_in_a_node(refused):
    assert refused(MISTAKES) == [
        "w.yaml:2:14 [E101] 'description' must be text, not 5. Put it in quotes.",
        "w.yaml:3:15 [E114] param 'low' has a 'min' greater than its 'max'.",
        "w.yaml:5:12 [E103] there is no node type 'Formt' (node 'a'). Did you mean 'Format'?",
        "w.yaml:6:29 [E102] node 'b' has 'text' twice; the first is on line 6. Remove one.",
        "w.yaml:6:38 [E104] Format has no input 'txt' (node 'b'). Did you mean 'text'?",
        (
            "w.yaml:7:17 [E101] node 'c' has the merge key '<<', which is not supported. Write the entries out; '&name' and "
            "'*name' may repeat single values."
        ),
        "w.yaml:10:9 [E101] node 'gone' is not a mapping. Write 'gone: {use: TYPE, ...}'.",
        "w.yaml:11:21 [E115] output 'y' has no link to a node. Write 'y: {from: $NODE}'.",
    ]


@pytest.mark.parametrize("text", ["nodegraph: 1\nnodes: 5\noutputs: {x: $a}\n", "nodegraph: 1\noutputs: {x: $a}\n"])
def test_without_nodes_nothing_more_is_said_about_them(refused, text):
    (problem,) = refused(text)
    assert "[E101]" in problem


def test_a_quoted_merge_key_is_a_name(refused):
    assert refused("nodegraph: 1\nnodes:\n  a: {use: Say, text: x, '<<': 3}\n  b: 5\n") == [
        "w.yaml:3:26 [E104] Say has no input '<<' (node 'a'). Its inputs are text.",
        "w.yaml:4:6 [E101] node 'b' is not a mapping. Write 'b: {use: TYPE, ...}'.",
    ]


@pytest.mark.parametrize("content", ["la la la", b"la la \xff"])
def test_plugins_describe_files_of_other_programs(refused, tmp_path, content):
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "songs.py").write_text(ANSWER)
    plugins = load_plugins([STUB_PLUGINS, tmp_path / "plugins"])
    assert refused(content, plugins) == ["[E101] w.yaml is a song. Sing it."]
    assert "song" not in refused("no music", plugins)[0]
