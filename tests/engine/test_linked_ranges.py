"""Ranges of linked values are checked when the values arrive."""

from __future__ import annotations

import pytest

from nodegraph import NodeError, Workflow
from tests.support.copying_workers import with_both_workers

INNER = """
nodegraph: 1
nodes:
  count: {use: Count, n: %d, start: %d}
  number: {use: Add, a: %d}
  inside: {use: "#inner", times: $number}
  each: {use: "#inner", each: {times: $count}}
outputs: {inside: {from: $inside}, each: {from: $each}}
workflows:
  inner:
    params: {times: {type: int, min: 2, max: 5}}
    nodes: {r: {use: Add, a: $params.times, b: 1}}
    outputs: {o: {from: $r}}
"""


def repeated(times: int) -> Workflow:
    w = Workflow("ranges")
    w.output("o", w.add("Repeat", name="repeat", text="x", times=w.add("Add", name="number", a=times)))
    return w


@with_both_workers
def test_the_range_of_an_input_holds_for_linked_values(make_engine, workers):
    assert make_engine().run(repeated(9))["o"] == "x" * 9
    with pytest.raises(NodeError) as caught:
        make_engine().run(repeated(10))
    assert "input 'times': expected a value from 0 to 9, found 10" in str(caught.value)
    assert "repeat" in str(caught.value)


@with_both_workers
def test_the_range_of_a_param_holds_for_values_that_come_through_it(make_engine, workers):
    result = make_engine().run(Workflow.parse(INNER % (3, 2, 5)))
    assert (result["inside"], result["each"]) == (6, [3, 4, 5])
    with pytest.raises(NodeError) as caught:
        make_engine().run(Workflow.parse(INNER % (3, 2, 6)))
    assert "inside/r" in str(caught.value)
    assert "input 'a', which is param 'times' of <text>#inner: expected a value from 2 to 5, found 6" in str(caught.value)
    failed = make_engine().run(Workflow.parse(INNER % (3, 4, 5)), keep_going=True, raise_errors=False)
    assert [name for name, report in failed.nodes.items() if report.status == "failed"] == ["each[2]/r"]


def test_a_limit_is_not_part_of_a_key(make_engine):
    make_engine().run(Workflow.parse(INNER % (3, 2, 5)))
    other = INNER.replace("max: 5", "max: 6")
    assert make_engine().run(Workflow.parse(other % (3, 2, 5))).ran == ()
