"""`takes`: how long a node takes, in words, said before a run that has to do it."""

from __future__ import annotations

import pytest

from nodegraph import Workflow, WorkflowError, node
from nodegraph.cli.progress import PlainProgress
from nodegraph.node_types.signature import SignatureError, spec_of
from nodegraph.workflow.document import parse
from nodegraph.workflow.dump import dump

INNER = """
nodegraph: 1
nodes:
  made: {use: Add, a: 2, takes: about an hour of one core}
outputs:
  made: {from: $made}
"""
OUTER = """
nodegraph: 1
nodes:
  used: {use: ./inner.yaml}
  sum: {use: Add, a: $used.made, b: 1}
outputs:
  sum: {from: $sum}
"""


def test_said_before_a_run_and_not_once_it_is_cached(make_engine, tmp_path, capsys):
    (tmp_path / "inner.yaml").write_text(INNER)
    (tmp_path / "outer.yaml").write_text(OUTER)
    line = "note: used/made is not in the cache yet, and takes about an hour of one core"
    lines = []
    for _ in range(2):
        make_engine(on_event=PlainProgress()).run(tmp_path / "outer.yaml")
        lines.append(capsys.readouterr().err.splitlines())
    assert lines[0][0] == line
    assert line not in lines[1]


def test_not_part_of_the_key_and_written_again(make_engine):
    engine = make_engine()
    with_it, without = (Workflow.parse(text) for text in (INNER, INNER.replace(", takes: about an hour of one core", "")))
    assert engine.plan(with_it).keys == engine.plan(without).keys
    assert parse(dump(with_it)).nodes["made"].takes == "about an hour of one core"
    assert "takes" not in dump(without)


def test_it_is_text():
    with pytest.raises(WorkflowError, match="'takes' of node 'made' must be text, not 5"):
        parse(INNER.replace("about an hour of one core", "5"))


def test_no_input_can_be_called_so():
    def slow(takes: int) -> int:
        """Take time."""
        return takes

    with pytest.raises(SignatureError, match="a parameter cannot be called 'takes'"):
        spec_of(node("Slow")(slow))
