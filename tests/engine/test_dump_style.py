"""`Workflow.dump` keeps comments, order and style of the text that was read if only values have changed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import Workflow

TEXT = """\
# a picture of a lake
nodegraph: 1   # the format

params:
    seed: 7        # try others
    text: {default: "a lake", help: what it says}
    steps: {default: 20}
    long: |
      two
      lines
    nothing:
nodes:
  sampled: {steps: $params.steps, use: Sampler, options: {eta: 0.5, 'kind': [1, 2.50, 0x10]}}

  # the second one
  second:
    use: Sampler
    list:
      - 1    # one
      - two
    link: $sampled
outputs: {o: {from: $sampled, save: "{seed}.png"}}
"""


def test_without_changes_the_text_stays():
    assert Workflow.parse(TEXT).dump() == TEXT


@pytest.mark.parametrize(
    ("changes", "old", "new"),
    [
        ({"seed": 8}, "seed: 7 ", "seed: 8 "),
        ({"seed": "random"}, "seed: 7 ", "seed: random "),
        ({"text": "7"}, 'default: "a lake"', 'default: "7"'),
        ({"steps": 30}, "{default: 20}", "{default: 30}"),
        ({"long": "one line"}, "long: |\n      two\n      lines\n", "long: one line\n"),
        ({"nothing": 1.5}, "nothing:\n", "nothing: 1.5\n"),
        ({"sampled.options.eta": 1}, "eta: 0.5", "eta: 1"),
        ({"sampled.options.kind": [3]}, "[1, 2.50, 0x10]", "[3]"),
        ({"sampled.options": {}}, "{eta: 0.5, 'kind': [1, 2.50, 0x10]}", "{}"),
        ({"second.list": [5, "two"]}, "- 1    # one", "- 5    # one"),
        ({"seed": 1, "steps": 2}, None, None),
    ],
)
def test_a_changed_value_is_replaced_in_its_place(changes, old, new):
    changed = Workflow.parse(TEXT).with_(changes)
    expected = (
        TEXT.replace("seed: 7 ", "seed: 1 ").replace("{default: 20}", "{default: 2}") if old is None else TEXT.replace(old, new)
    )
    assert changed.dump() == expected


def test_other_changes_write_the_workflow_anew():
    for change in (lambda w: w.remove_output("o"), lambda w: w.add("Sampler", name="third"), lambda w: w.param("p", 1)):
        workflow = Workflow.parse(TEXT)
        change(workflow)
        text = workflow.dump()
        assert "#" not in text
        assert Workflow.parse(text).dump() == text
    longer = Workflow.parse(TEXT).with_({"second.list": [1]})  # a list over several lines
    assert Workflow.parse(longer.dump()).nodes["second"].inputs["list"] == [1]


def test_a_value_that_is_repeated_is_not_changed_in_both_places():
    text = "nodegraph: 1\nparams: {a: &x 1, b: *x}\nnodes: {}\n"
    changed = Workflow.parse(Workflow.parse(text).with_({"a": 2}).dump())
    assert [param.default for param in changed.params.values()] == [2, 1]


def test_a_file_keeps_its_name(tmp_path: Path):
    (tmp_path / "lake.yaml").write_text(TEXT)
    workflow = Workflow.load(tmp_path / "lake.yaml")
    assert workflow.dump() == TEXT
    workflow.name = "pond"
    assert Workflow.parse(workflow.dump()).name == "pond"


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=2), inner, max_size=3),
    max_leaves=5,
)


@settings(max_examples=100, deadline=None)
@given(values=st.dictionaries(st.sampled_from(["seed", "text", "long", "nothing", "sampled.options", "second.list"]), VALUES))
def test_reading_what_was_dumped_gives_the_same(values):
    changed = Workflow.parse(TEXT).with_(values)
    again = Workflow.parse(changed.dump())
    assert {name: param.default for name, param in again.params.items()} == {n: p.default for n, p in changed.params.items()}
    assert {name: node.inputs for name, node in again.nodes.items()} == {n: node.inputs for n, node in changed.nodes.items()}
