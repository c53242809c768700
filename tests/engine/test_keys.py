"""Keys are equal for equal inputs and different for different inputs."""

from __future__ import annotations

import math
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import Engine, Workflow
from nodegraph.cache.file_digests import FileDigests, hash_file
from nodegraph.cache.keys import KeyMaker, Keys, NoCanonicalFormError, canonical
from nodegraph.graph.graph import Graph, GraphNode, Input, ResolvedLink, Value
from nodegraph.plugins.manager import Plugins
from nodegraph.plugins.registry import Entry, Origin
from nodegraph.run.result import Result

PART_OF_A_FILE = """
from typing import Annotated
from nodegraph import Reads, Resource, hookimpl, node

def part_of_a_file(text, base):
    path, _, part = text.partition("#")
    return Resource((path, part), {{"file": base / path}})

@node("Part")
def part(file: Annotated[tuple, Reads(part_of_a_file, by_content={by_content})]) -> str:
    return file[1]

@hookimpl
def register_nodes(register):
    register(part)
"""

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(max_size=8)
    | st.sampled_from([-0.0, 0.0])
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3), max_leaves=8
)


def identity(value: Any) -> Any:
    """`value` in a form in which == also compares types, and 0.0 differs from -0.0."""
    if isinstance(value, list):
        return ("list", *map(identity, value))
    if isinstance(value, dict):
        return ("dict", frozenset((key, identity(item)) for key, item in value.items()))
    return (type(value), value, math.copysign(1, value) if isinstance(value, float) else None)


@settings(deadline=None, max_examples=60)
@given(VALUES, VALUES)
def test_canonical_bytes_are_equal_only_for_equal_values(one: Any, other: Any) -> None:
    assert (canonical(one) == canonical(other)) == (identity(one) == identity(other))


@settings(deadline=None, max_examples=40)
@given(st.lists(SCALARS, max_size=4), st.randoms())
def test_order_of_a_mapping_does_not_matter(values: list[Any], random: Any) -> None:
    items = [(str(i), value) for i, value in enumerate(values)]
    shuffled = random.sample(items, len(items))
    assert canonical(dict(items)) == canonical(dict(shuffled))


def test_similar_literals_have_different_keys() -> None:
    alike = [
        1,
        1.0,
        True,
        "1",
        b"1",
        [1],
        (1,),
        {1},
        {"1": 1},
        None,
        "None",
        0,
        0.0,
        -0.0,
        False,
        "",
        [],
        (),
        {},
        set(),
        frozenset(),
        [[]],
    ]
    assert len({canonical(value) for value in alike}) == len(alike)


@pytest.mark.parametrize("value", [math.nan, [1.0, math.nan], {"a": math.nan}, object(), Path("a"), [object()]])
def test_values_without_canonical_form_are_refused(value: Any) -> None:
    with pytest.raises(NoCanonicalFormError):
        canonical(value)


# --- the key of a node


ORIGIN = Origin("plugin", "1.0")


def key_of(
    plugins: Plugins, type: str = "Number", origin: Origin = ORIGIN, numeric: str = "cpu", **inputs: Input | float | str | None
) -> str:
    spec = plugins.nodes.get(type).value
    resolved = {name: value if isinstance(value, Value | ResolvedLink) else Value(value) for name, value in inputs.items()}
    node = GraphNode(name="n", spec=spec, origin=origin, inputs=resolved)
    parts = KeyMaker(hash_file, lambda: numeric).key_parts(node)
    keys = Keys(static={}, without_key={}, parts={"n": parts})
    content = keys.content_keys(lambda link: f"digest of {link.node}.{link.port}")("n")
    assert content is not None
    return content


def test_key_covers_type_code_literals_and_links(plugins: Plugins) -> None:
    different = [
        key_of(plugins, value=1.0),
        key_of(plugins, value=2.0),
        key_of(plugins, "Draw", seed=1),
        key_of(plugins, value=1.0, origin=Origin("plugin", "1.1")),
        key_of(plugins, value=1.0, origin=Origin("plugin", "1.0", "abc")),
        key_of(plugins, value=ResolvedLink("a", "output")),
        key_of(plugins, value=ResolvedLink("b", "output")),
        key_of(plugins, value=ResolvedLink("a", "other")),
    ]
    assert len(set(different)) == len(different)
    assert key_of(plugins, value=1.0) == key_of(plugins, value=1.0)


def test_numeric_class_is_only_in_keys_of_numeric_nodes(plugins: Plugins) -> None:
    assert key_of(plugins, "Numeric", numeric="cpu", value=1.0) != key_of(plugins, "Numeric", numeric="cuda", value=1.0)
    assert key_of(plugins, "Number", numeric="cpu", value=1.0) == key_of(plugins, "Number", numeric="cuda", value=1.0)


def test_registry_entry_adds_its_plugin_to_the_key(plugins: Plugins) -> None:
    def named(name: str, digest: str) -> Value:
        return Value(str.upper, entry=Entry(name, str.upper, Origin("filters", "0", digest)))

    assert key_of(plugins, "Filtered", filter=named("upper", "a")) == key_of(plugins, "Filtered", filter=named("upper", "a"))
    assert key_of(plugins, "Filtered", filter=named("upper", "a")) != key_of(plugins, "Filtered", filter=named("upper", "b"))
    assert key_of(plugins, "Filtered", filter=named("upper", "a")) != key_of(plugins, "Filtered", filter=named("lower", "a"))


def test_files_are_keyed_by_content(plugins: Plugins, tmp_path: Path) -> None:
    def file(name: str, content: str) -> Value:
        path = tmp_path / name
        path.write_text(content)
        return Value(path, files={"file": path})

    assert key_of(plugins, "Contents", path=file("a", "same")) == key_of(plugins, "Contents", path=file("b", "same"))
    assert key_of(plugins, "Contents", path=file("a", "same")) != key_of(plugins, "Contents", path=file("a", "other"))


@pytest.mark.parametrize("by_content", [False, True])
def test_text_that_names_files_is_in_the_key_unless_their_content_says_all(tmp_path: Path, by_content: bool) -> None:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "reading.py").write_text(PART_OF_A_FILE.format(by_content=by_content))
    (tmp_path / "file.txt").write_text("x")

    def run(text: str) -> Result:
        workflow = Workflow("w", base=tmp_path)
        workflow.output("out", workflow.add("Part", name="n", file=text))
        return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]).run(workflow)

    assert run("file.txt#one")["out"] == "one"
    assert run("file.txt#one").cached == ("n",)
    assert run("file.txt#two")["out"] == ("one" if by_content else "two")
    (tmp_path / "file.txt").write_text("y")
    assert run("file.txt#two").ran == ("n",)


# --- the keys of a graph


def static_keys(engine: Engine, workflow: Workflow, **params: Any) -> Keys:
    graph = engine.check(workflow, params)
    return KeyMaker(hash_file, lambda: "none").static_keys(graph)


def chain(length: int) -> Workflow:
    workflow = Workflow("chain")
    last = workflow.add("Number", value=1.0)
    for _ in range(length - 1):
        last = workflow.add("Plus", name=f"n{len(workflow.nodes)}", a=last)
    workflow.output("sum", last)
    return workflow


def test_names_and_order_of_nodes_do_not_matter(engine: Engine) -> None:
    def built(names: list[str], turned: bool) -> set[str]:
        workflow = Workflow("w")
        adds: list[Callable[[], Any]] = [
            lambda: workflow.add("Number", name=names[0], value=1.0),
            lambda: workflow.add("Number", name=names[1], value=2.0),
        ]
        one, two = [add() for add in (reversed(adds) if turned else adds)][:: -1 if turned else 1]
        workflow.add("Plus", name=names[2], a=one, b=two)
        return set(static_keys(engine, workflow).static.values())

    assert built(["a", "b", "c"], turned=False) == built(["x", "y", "z"], turned=True)


def test_defaults_have_the_key_of_written_values(engine: Engine) -> None:
    workflow = Workflow("w")
    workflow.add("Plus", name="a", a=1.0)
    workflow.add("Plus", name="b", a=1, b=1.0)
    keys = static_keys(engine, workflow).static
    assert keys["a"] == keys["b"]


def test_impure_node_and_nodes_below_have_no_key(engine: Engine) -> None:
    workflow = Workflow("w")
    dice = workflow.add("Dice", name="dice")
    below = workflow.add("Plus", name="below", a=dice)
    workflow.add("Plus", name="further", a=below)
    workflow.add("Number", name="aside")
    keys = static_keys(engine, workflow)
    assert set(keys.static) == {"aside"}
    assert "not pure" in keys.without_key["dice"]
    assert "'dice'" in keys.without_key["below"]
    assert "'below'" in keys.without_key["further"]


@pytest.mark.parametrize("value", [object(), [Path("x")], {"a": {1, 2, object()}}])
def test_input_without_canonical_form_leaves_no_key(engine: Engine, value: Any) -> None:
    workflow = Workflow("w")
    odd = workflow.add("Anything", name="odd", value=value)
    workflow.add("Anything", name="below", value=odd)
    keys = static_keys(engine, workflow)
    assert not keys.static
    assert "'value'" in keys.without_key["odd"]


def test_recursive_list_has_no_canonical_form(plugins: Plugins) -> None:
    endless: list[Any] = []
    endless.append(endless)
    node = GraphNode(name="n", spec=plugins.nodes.get("Anything").value, origin=ORIGIN, inputs={"value": Value(endless)})
    graph = Graph(workflow="w", nodes={"n": node}, outputs={}, params={}, resolved=Workflow("w"))
    keys = KeyMaker(hash_file, lambda: "none").static_keys(graph)
    assert "nested too deep" in keys.without_key["n"]


def test_keys_of_a_long_chain_take_linear_time(engine: Engine) -> None:
    def calls(length: int) -> int:
        graph = engine.check(chain(length))
        counted = 0

        def count(frame: FrameType, event: str, argument: Any) -> None:
            nonlocal counted
            counted += event in ("call", "c_call")

        sys.setprofile(count)
        try:
            keys = KeyMaker(hash_file, lambda: "none").static_keys(graph)
        finally:
            sys.setprofile(None)
        assert len(keys.static) == length
        return counted

    assert calls(4_000) < 10.5 * calls(400)


# --- digests of files


HOUR_NS = 3600 * 10**9


def aged(path: Path, content: str, seconds: float = 60.0) -> Path:
    """A file with an old modification time."""
    path.write_text(content)
    os.utime(path, (time.time() - seconds,) * 2)
    return path


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files that were actually read."""
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return hash_file(path)

    monkeypatch.setattr("nodegraph.cache.file_digests.hash_file", counted)
    return read


def test_settled_file_is_read_once_by_all_processes(tmp_path: Path, reads: list[Path]) -> None:
    path = aged(tmp_path / "file", "content")
    for _ in range(3):  # each like a new process
        assert FileDigests(tmp_path / "memo", granularity_ns=0).sha256(path) == hash_file(path)
    assert reads == [path]


def test_recent_file_is_not_trusted(tmp_path: Path, reads: list[Path]) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    known = FileDigests(tmp_path / "memo", granularity_ns=HOUR_NS)  # so that the test may take any time
    first = known.sha256(path)
    stat = path.stat()
    path.write_text("two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a change that mtime does not show
    assert known.sha256(path) != first
    assert known.sha256(aged(path, "two")) == known.sha256(path)  # its ctime is new, though its mtime is not
    assert len(reads) == 4


def test_file_stays_unsettled_after_a_long_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_text("one")
    read: list[Path] = []

    def slow(path: Path) -> str:
        read.append(path)
        now = path.stat().st_mtime_ns + 10 * 10**9
        monkeypatch.setattr("nodegraph.files.time.time_ns", lambda: now)
        return hash_file(path)

    monkeypatch.setattr("nodegraph.cache.file_digests.hash_file", slow)
    known = FileDigests(None)
    for _ in range(3):
        known.sha256(path)
    assert len(read) == 2  # once while it was young, once when it had settled


def test_file_from_the_future_is_never_trusted(tmp_path: Path, reads: list[Path]) -> None:
    path = aged(tmp_path / "file", "one", seconds=-86400)  # as if a clock was set back
    known = FileDigests(tmp_path / "memo", granularity_ns=0)
    first = known.sha256(path)
    stat = path.stat()
    path.write_text("two")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert known.sha256(path) != first
    assert known.sha256(path) == hash_file(path)
    assert len(reads) == 3


def settled(path: Path) -> None:
    """Wait until a change of the file will show in its ctime, which no program can set."""
    probe = path.with_name("probe")
    while True:
        probe.write_text("tick")
        if probe.stat().st_ctime_ns > path.stat().st_ctime_ns:
            return


def set_times_back(path: Path, before: os.stat_result) -> None:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.mark.skipif(os.name == "nt", reason="Windows has no timestamp that changes with every write")
@pytest.mark.parametrize("how", ["in place", "replaced", "longer"])
def test_change_with_a_reset_mtime_is_seen(tmp_path: Path, reads: list[Path], how: str) -> None:
    path = aged(tmp_path / "file", "one")
    known = FileDigests(tmp_path / "memo", granularity_ns=0)
    assert known.sha256(path) == known.sha256(path)
    assert len(reads) == 1  # the remembered digest is used
    before = path.stat()
    settled(path)
    if how == "replaced":
        (tmp_path / "new").write_text("two")
        set_times_back(tmp_path / "new", before)
        (tmp_path / "new").replace(path)
    else:
        path.write_text("two" if how == "in place" else "one and two")
    set_times_back(path, before)
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert known.sha256(path) == FileDigests(tmp_path / "memo", granularity_ns=0).sha256(path) == hash_file(path)


def test_file_changed_while_hashed_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = aged(tmp_path / "file", "one")

    def edited(path: Path) -> str:
        digest = hash_file(path)
        path.write_text("two, which is longer")
        return digest

    known = FileDigests(tmp_path / "memo", granularity_ns=0)
    with monkeypatch.context() as patched:
        patched.setattr("nodegraph.cache.file_digests.hash_file", edited)
        known.sha256(path)
    assert known.sha256(path) == FileDigests(tmp_path / "memo", granularity_ns=0).sha256(path) == hash_file(path)


def test_changed_file_is_read_again(tmp_path: Path) -> None:
    known = FileDigests(tmp_path / "memo", granularity_ns=0)
    path = aged(tmp_path / "file", "one")
    first = known.sha256(path)
    aged(path, "two", seconds=30)
    assert known.sha256(path) != first
    assert known.unchanged(path, hash_file(path))
    assert not known.unchanged(path, first)
    path.unlink()
    assert not known.unchanged(path, first)


@pytest.mark.parametrize("damage", [b"no json\n", b"[1,2]\n", b"\xff\xfe\n", b'[1,2,3,4,5,"half'])
def test_damaged_memo_costs_one_read(tmp_path: Path, damage: bytes, reads: list[Path]) -> None:
    path = aged(tmp_path / "file", "content")
    memo = tmp_path / "memo"
    FileDigests(memo, granularity_ns=0).sha256(path)
    memo.write_bytes(damage + memo.read_bytes())
    assert FileDigests(memo, granularity_ns=0).sha256(path) == hash_file(path)


def test_unwritable_memo_costs_only_reads(tmp_path: Path, reads: list[Path]) -> None:
    path = aged(tmp_path / "file", "content")
    (tmp_path / "blocked").touch()
    known = FileDigests(tmp_path / "blocked" / "memo", granularity_ns=0)
    assert known.sha256(path) == known.sha256(path) == hash_file(path)
    assert reads == [path]


def test_memo_size_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nodegraph.cache.file_digests.MAX_REMEMBERED", 8)
    memo = tmp_path / "memo"
    for i in range(40):
        FileDigests(memo, granularity_ns=0).sha256(aged(tmp_path / f"file{i}", str(i)))
    assert len(memo.read_text().splitlines()) <= 10
