"""Lock files: what they hold, what `verify` and `locked=True` compare, and what happens to damaged ones."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import LockError, NodeError, Workflow, lock, verify
from nodegraph.node_types.fetching import expected_digests
from nodegraph.node_types.portable import portable
from nodegraph.run.lock.changes import changes
from nodegraph.run.lock.expected import expected_by
from nodegraph.run.lock.lock_file import Lock, lock_path, read_lock
from nodegraph.workflow.definitions import Link

TEXT = """
nodegraph: 1
params: {word: hey, seed: 3}
nodes:
  read: {use: Contents, path: words/a.txt}
  loud: {use: Filtered, text: $read, filter: upper}
  drawn: {use: Draw, seed: $params.seed}
  number: {use: Numeric, value: $plain}
  plain: {use: Number, value: 2}
outputs:
  loud: {from: $loud}
  drawn: {from: $drawn}
  number: {from: $number}
"""


@pytest.fixture
def file(tmp_path):
    """A workflow that reads a file, draws a number and computes with tensors."""
    (tmp_path / "words").mkdir()
    (tmp_path / "words/a.txt").write_text("some words")
    path = tmp_path / "say.yaml"
    path.write_text(TEXT)
    return path


def test_holds_files_versions_the_numeric_class_and_outputs(engine, file, stubs):
    written = lock(file, engine=engine)
    assert read_lock(file.with_name("say.lock.yaml")) == written
    assert written.files == {"words/a.txt": {"file": hashlib.sha256(b"some words").hexdigest()}}
    assert {*written.plugins} == {"stub_pack"}
    assert re.fullmatch(r"[0-9a-f]{64}", written.plugins["stub_pack"]["code"])
    assert {"nodegraph", "python"} <= written.libraries.keys()
    assert written.numerics is not None
    assert written.numerics.startswith("cpu ")
    assert {*written.outputs} == {"loud", "drawn", "number"}
    assert written.outputs["loud"] == hashlib.sha256(b'json\0"SOME WORDS"').hexdigest()
    assert written.nodes["loud"] == {"use": "Filtered", "inputs": {"text": Link("read", "output"), "filter": "upper"}}


COMPOSED = """
nodegraph: 1
nodes:
  first: {use: "#inner", a: 1}
  mapped: {use: Plus, each: {a: [2, $first.sum]}}
  inner: {use: "#inner", each: {a: $mapped}}
  counted: {use: Count, n: 2}
  made: {use: Plus, each: {a: $counted}}
  total: {use: Total, values: $inner.sum}
  rest: {use: Total, values: $made}
outputs: {total: {from: $total}, rest: {from: $rest}}
workflows:
  inner:
    params: {a: 0}
    nodes: {once: {use: Plus, a: $params.a}, twice: {use: Plus, a: $once}}
    outputs: {sum: {from: $twice}}
"""


def test_composed_workflows_are_locked_and_read_again(engine, tmp_path):
    file = tmp_path / "composed.yaml"
    file.write_text(COMPOSED)
    written = lock(file, engine=engine)
    assert changes(read_lock(lock_path(file)), written) == []
    assert "inner[1]/twice" in written.nodes
    assert engine.run(file, locked=True).status == "done"
    assert verify(file, engine=engine).changes == ()
    file.write_text(COMPOSED.replace("[2, $first.sum]", "[$first.sum, 2]"))
    with pytest.raises(LockError, match=r"input 'mapped\[1\].a' was .*first/twice.output.* and is 2"):
        engine.run(file, locked=True)


def test_is_the_same_each_time(engine, make_engine, file):
    lock(file, engine=engine)
    first = lock_path(file).read_bytes()
    lock(file, engine=make_engine(cache_dir=None))
    assert lock_path(file).read_bytes() == first


def test_verify_computes_again(engine, file, stubs):
    lock(file, engine=engine)
    calls = list(stubs.CALLS)
    verified = verify(file, engine=engine)
    assert verified
    assert verified.changes == verified.outputs == ()
    assert calls != stubs.CALLS
    assert {*verified.result.ran} == {"read", "loud", "drawn", "number", "plain"}


def test_verify_names_what_changed(engine, file):
    lock(file, engine=engine)
    (file.parent / "words/a.txt").write_text("other words")
    file.write_text(TEXT.replace("seed: 3", "seed: 4").replace("Numeric, value", "Plus, a"))
    verified = verify(file, engine=engine)
    assert not verified
    assert [(change.part, change.name) for change in verified.changes] == [
        ("input", "drawn.seed"),
        ("node", "number"),
        ("file", "words/a.txt"),
        ("numerics", ""),
    ]
    assert str(verified.changes[0]) == "input 'drawn.seed' was 3 and is 4"
    assert [change.name for change in verified.outputs] == ["loud", "drawn", "number"]


def test_changes_without_an_effect_are_named_and_the_outputs_are_the_same(engine, file):
    lock(file, engine=engine)
    file.write_text(TEXT.replace("params: {", "params: {new: 1, ").replace("nodes:\n", "nodes:\n  extra: {use: Number}\n"))
    verified = verify(file, engine=engine)
    assert verified
    assert [str(change) for change in verified.changes] == ["node 'extra' is new: Number"]


def test_random_seeds_are_those_of_the_lock(engine, file):
    file.write_text(TEXT.replace("seed: 3", "seed: random"))
    written = lock(file, engine=engine)
    assert {*written.seeds} == {"seed"}
    assert verify(file, engine=engine)
    assert engine.run(file, locked=True)["drawn"] == written.seeds["seed"] == engine.run(file, locked=lock_path(file))["drawn"]


def test_locked_refuses_before_anything_runs_and_names_each_thing(engine, file, stubs):
    written = lock(file, engine=engine)
    other = {"libraries": {**written.libraries, "python": "2.7"}, "plugins": {"stub_pack": {"version": "9"}}}
    dataclasses.replace(written, **other).write(lock_path(file))
    (file.parent / "words/a.txt").write_text("other words")
    calls = list(stubs.CALLS)
    with pytest.raises(LockError, match=r"\[E403\].*nothing was run") as caught:
        engine.run(file, locked=True, params={"seed": 4})
    message = str(caught.value)
    for name in ("'drawn.seed' was 3 and is 4", "file 'words/a.txt'", "plugin 'stub_pack' was 9", "library 'python' was 2.7"):
        assert name in message
    assert calls == stubs.CALLS
    with pytest.raises(LockError):
        engine.start(file, locked=True, params={"seed": 4}).result()


def test_locked_runs_what_matches(engine, file):
    lock(file, engine=engine)
    assert engine.run(file, locked=True).status == "done"


def test_a_failed_run_leaves_the_earlier_lock_file(engine, file):
    lock(file, engine=engine)
    before = lock_path(file).read_bytes()
    file.write_text("nodegraph: 1\nnodes: {x: {use: Broken}}\noutputs: {x: {from: $x}}\n".replace("Broken", "Fail, text: a"))
    with pytest.raises(NodeError):
        lock(file, engine=engine)
    assert lock_path(file).read_bytes() == before


def test_a_lock_file_that_cannot_be_written_is_an_error(engine, file):
    with pytest.raises(LockError, match=r"\[E402\] cannot write"):
        lock(file, engine=engine, path=file / "x.lock.yaml")


def test_lists_and_nodes_inside_sub_workflows_are_locked(engine, tmp_path):
    (tmp_path / "inner.yaml").write_text(
        "nodegraph: 1\nparams: {seed: 1}\nnodes: {drawn: {use: Draw, seed: $params.seed}}\noutputs: {drawn: {from: $drawn}}\n"
    )
    outer = tmp_path / "outer.yaml"
    outer.write_text(
        "nodegraph: 1\nnodes: {small: {use: ./inner.yaml, each: {seed: [1, 2, random]}}}\noutputs: {all: {from: $small}}\n"
    )
    written = lock(outer, engine=engine)
    assert {*written.outputs} == {"all[0]", "all[1]", "all[2]"}
    assert {*written.nodes} == {"small[0]/drawn", "small[1]/drawn", "small[2]/drawn"}
    assert verify(outer, engine=engine)
    inner = (tmp_path / "inner.yaml").read_text()
    (tmp_path / "inner.yaml").write_text(inner.replace("{use: Draw", "{use: Draw, other: 5"))
    verified = verify(outer, engine=engine)
    assert [change.name for change in verified.changes] == [f"small[{k}]/drawn.other" for k in range(3)]


def test_a_workflow_that_was_made_in_python_needs_a_path(engine, tmp_path):
    workflow = Workflow("made")
    workflow.output("x", workflow.add("Number", value=1.0))
    with pytest.raises(LockError, match="was not read from a file"):
        lock(workflow, engine=engine)
    with pytest.raises(LockError, match="was not read from a file"):
        engine.run(workflow, locked=True)
    lock(workflow, engine=engine, path=tmp_path / "made.lock.yaml")
    assert verify(workflow, engine=engine, path=tmp_path / "made.lock.yaml")
    assert engine.run(workflow, locked=tmp_path / "made.lock.yaml").status == "done"


GOOD = "nodegraph_lock: 1\nworkflow: x\nnodes: {}\n"
DAMAGED = {
    "": "no 'nodegraph_lock'",
    "[1, 2]": "no 'nodegraph_lock'",
    "nodegraph: 1\nnodes: {}\n": "no 'nodegraph_lock'",
    "{": "cannot be read",
    "\x00": "cannot be read",
    "nodegraph_lock: 1\nnodegraph_lock: 1\n": "twice",
    "nodegraph_lock: 2\n": "version 2 of the format, and this version of nodegraph reads 1",
    "nodegraph_lock: true\n": "version true",
    "nodegraph_lock: 0\n": "version 0",
    "nodegraph_lock: 1\nworkflow: x\n": "no 'nodes'",
    GOOD + "other: 1\n": "'other': expected nothing, found 1",
    GOOD + "files: {a: {file: 12}}\n": "'files': expected a SHA-256 for each file",
    GOOD + "files: [a]\n": "'files'",
    GOOD + "outputs: {a: abc}\n": "'outputs'",
    GOOD + "seeds: {a: b}\n": "'seeds'",
    GOOD + "numerics: 3\n": "'numerics'",
    GOOD.replace("{}", "{a: b}"): "'nodes'",
    GOOD.replace("{}", "[" * 200): "nested more than",
}


@pytest.mark.parametrize("text", DAMAGED, ids=range(len(DAMAGED)))
def test_damaged_foreign_and_old_lock_files_are_errors(engine, file, text):
    lock_path(file).write_text(text)
    for call in (lambda: verify(file, engine=engine), lambda: engine.run(file, locked=True)):
        with pytest.raises(LockError, match=r"\[E402\]") as caught:
            call()
        assert DAMAGED[text] in str(caught.value)
        assert "nodegraph lock" in str(caught.value)


def test_a_missing_lock_file_is_an_error(engine, file):
    with pytest.raises(LockError, match="there is no lock file"):
        verify(file, engine=engine)
    lock_path(file).mkdir()
    with pytest.raises(LockError, match="there is no lock file"):
        engine.run(file, locked=True)


def test_a_lock_file_that_is_not_utf8_is_an_error(file):
    lock_path(file).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(LockError, match="not UTF-8"):
        read_lock(lock_path(file))


def test_its_hashes_are_those_of_downloads(file):
    digest = "ab" * 32
    expected = expected_by(file)
    assert expected("hf://org/model") == {}
    Lock(workflow="say", nodes={}, files={"hf://org/model": {"model": digest}}).write(lock_path(file))
    assert expected_by(file)("hf://org/model") == {"model": digest}
    assert expected_by(file)("hf://org/other") == expected_by(None)("hf://org/model") == {}
    assert expected_digests("hf://org/model") == {}  # outside a run
    lock_path(file).write_text("{")
    with pytest.raises(LockError):
        expected_by(file)("hf://org/model")


def test_paths_in_a_lock_file_do_not_name_the_home_folder(tmp_path, monkeypatch):
    home, other = tmp_path / "home" / "anna", tmp_path / "data"
    monkeypatch.setenv("HOME", str(home))
    for folder in (home / "models", other, home / "work"):
        folder.mkdir(parents=True)
        (folder / "x").touch()
    work = home / "work"
    assert portable("x", work, work) == "x"
    assert portable("../models/x", work, work) == "../models/x"
    assert portable(f"{home}/models/x", work, work) == "~/models/x"
    assert portable("~/models/x", work, work) == "~/models/x"
    assert portable(f"{home}/models/*", work, work) == "~/models/*"
    assert portable("../home/anna/models/x", other, other) == "~/models/x"
    assert portable("x", home / "models", other) == "~/models/x"
    assert portable("x", other, other.parent) == "data/x"
    assert portable(str(other / "x"), work, work) == str(other / "x")
    assert portable("hf://org/name", work, other) == "hf://org/name"
    assert portable("a\0b", work, other) == "a\0b"


LITERALS = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**12), 10**12) | st.floats(allow_nan=False) | st.text(max_size=30),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.text(min_size=1, max_size=12)


@settings(max_examples=40)
@given(st.dictionaries(NAMES, st.dictionaries(NAMES, LITERALS, max_size=3), max_size=4), NAMES)
def test_any_workflow_comes_back_as_it_was_written(tmp_path_factory, nodes, name):
    path = tmp_path_factory.getbasetemp() / "any.lock.yaml"
    written = Lock(workflow=name, nodes={key: {"use": "X", "inputs": inputs} for key, inputs in nodes.items()})
    written.write(path)
    assert read_lock(path) == written
    assert changes(read_lock(path), written) == []
