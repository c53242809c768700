"""Well-formed but odd workflow files: any value in any position gives a run, or problems with their location."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph.graph import inputs
from nodegraph.plugins.manager import Plugins
from nodegraph.workflow import yaml_tree

WHOLE = """\
nodegraph: <1>
name: <w>
description: <d>
params:
  p: <1>
  q: {default: <hey>, help: <h>}
  t: {default: <2>, min: <0>, max: <9>}
  r: {type: <path>, default: <file>}
  s: {type: <seed>, default: <random>}
nodes:
  a: {use: <Number>, value: <1.5>}
  b: {use: Plus, a: <$a>, b: <$params.p>}
  c: {use: Total, values: <[$a, 1, $b]>}
  d: {use: Load, path: <$params.r>}
  e: {use: Describe, model: <$d.model>, text: <$params.q>}
  f: <{use: Anything, value: {x: [1, ~]}}>
  g: {use: Draw, seed: <random>}
  h: {use: Filtered, text: <x>, filter: <upper>}
  i: {use: Many, numbers: <[1, 2]>, text: <"y">}
  j: {use: Make, text: <x>, count: <$params.t>}
  k: {use: Numeric, value: <1>}
outputs:
  o: <$b>
  m: {from: <$e>, save: <"{p}/{q}-{workflow}">}
  n: {from: <$c>, save: <"{r}">}
  l: <{from: $j}>
"""
PARTS = re.split("<(.*?)>", WHOLE)  # the odd items can be replaced
ODD = [
    *("~", "true", "1", "-1", "1.5", ".nan", ".inf", "1e999", "9" * 30, "9" * 400, "0x10", "''", "a", "é", "[]", "{}"),
    *("$a", "$b", "$d.model", "$a.output", "$a.x", "$z", "$params.p", "$params.z", "$params", "$$a", "'$a'", "$", "!!str 1"),
    *("random", "file", "nowhere", "/", "..", "~no-such-user/x", '"\\0"', '"a\\nb"', "builtin:tiny", "upper", "con", "text", "int"),
    *("'{p}'", "'{q}/../..'", "'{'", "'{z}'", "'/abs'", "'a/'", "x.png", "{use: Number}", "{from: $a}", "{default: 1}", "Number"),
]
odd = st.recursive(
    st.sampled_from(ODD),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(st.sampled_from(["use", "from", "save", "value", "default", "1", "~", "[a]"]), inner), max_size=3).map(
            lambda pairs: f"{{{', '.join(f'{key}: {value}' for key, value in pairs)}}}"
        ),
    ),
    max_leaves=5,
)
documents = st.dictionaries(st.sampled_from(range(1, len(PARTS), 2)), odd, max_size=2).map(
    lambda put: "".join(put.get(i, part) for i, part in enumerate(PARTS))
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("odd")
    (folder / "file").write_text("x")
    return folder


@settings(max_examples=100, deadline=None)
@given(documents)
def test_any_value_runs_or_is_refused_with_its_location(plugins: Plugins, folder: Path, source: str) -> None:
    engine = Engine(cache_dir=None, plugins=plugins)
    status, refused = "refused", None
    try:
        workflow = Workflow.parse(source, file="odd.yaml", base=folder)
        status = engine.run(workflow, out=folder / "out", raise_errors=False).status
    except WorkflowError as error:
        refused = error
    assert status in ("done", "failed", "refused")
    if refused is not None:
        assert all(problem.where is not None and problem.where.file == "odd.yaml" for problem in refused.problems)
        assert all(re.match(r"odd\.yaml:\d+:\d+ \[E1\d\d\] \S", line) for line in str(refused).splitlines())


def test_unchanged_document_runs(plugins: Plugins, folder: Path) -> None:
    source = "".join(PARTS)
    result = Engine(cache_dir=None, plugins=plugins).run(Workflow.parse(source, base=folder), out=folder / "whole")
    assert set(result.outputs) == {"o", "m", "n", "l"}


# --- bounds


@pytest.mark.parametrize("opening", ["[", "{a: ", "- ", "? ", "- - ", "a:\n"])
def test_five_thousand_levels_are_refused(opening: str) -> None:
    closing = {"[": "]", "{a: ": "}"}.get(opening, "")
    nested = opening * 5_000 + "1" + closing * 5_000
    if opening == "a:\n":
        nested = "".join(f"{' ' * i}a:\n" for i in range(5_000))
    with pytest.raises(WorkflowError, match="nested more than 64 levels deep"):
        Workflow.parse(f"nodegraph: 1\nnodes:\n  a: {{use: T, x: {nested}}}\n" if opening in ("[", "{a: ") else nested)


def test_endless_list_is_refused_early(monkeypatch: pytest.MonkeyPatch) -> None:
    assert yaml_tree.MOST_PARTS == 1_000_000
    monkeypatch.setattr(yaml_tree, "MOST_PARTS", 1_000)
    with pytest.raises(WorkflowError, match=r"w\.yaml:1001:3 \[E100\] .* more than 1,000 values"):
        Workflow.parse("- a\n" * 1_100, file="w.yaml")


@pytest.mark.parametrize("before", ["", "# a\n", "%YAML 1.2\r\n"])
def test_tags_are_refused_early(before: str) -> None:  # the parser takes minutes for as many
    with pytest.raises(WorkflowError, match=r"\[E100\] tags are not supported in a workflow\. Remove '%TAG'\.$") as caught:
        Workflow.parse(before + "".join(f"%TAG !a{i}! b\n" for i in range(100_000)) + "---\nnodegraph: 1\n")
    assert str(caught.value.problems[0].where).endswith(":2:1" if before else ":1:1")


def test_thousands_of_dangling_links_are_reported_fast(plugins: Plugins, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def counted(name: str, known: object) -> str:
        asked.append(name)
        return f"Did you mean '{name}'?"

    monkeypatch.setattr(inputs, "did_you_mean", counted)
    lines = "".join(f"  node{i}: {{use: Plus, a: $nude{i}, b: $params.p{i}}}\n" for i in range(1000))
    workflow = Workflow.parse(f"nodegraph: 1\nparams: {{q: 1}}\nnodes:\n{lines}outputs: {{o: $node1}}\n")
    with pytest.raises(WorkflowError) as caught:
        Engine(cache_dir=None, plugins=plugins).check(workflow)
    assert len(caught.value.problems) == 2000
    assert len(asked) == 100
    assert "Did you mean 'nude0'?" in str(caught.value.problems[0])


def test_large_file_is_refused_by_size(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_bytes(b"#" + "é".encode() * (9 << 20))
    with pytest.raises(WorkflowError, match="is larger than 16 MiB"):
        Workflow.load(tmp_path / "w.yaml")


def test_impossible_path_is_refused() -> None:
    with pytest.raises(WorkflowError, match=r"\[E100\] .* cannot be read: .*null"):
        Workflow.load("a\0b.yaml")
