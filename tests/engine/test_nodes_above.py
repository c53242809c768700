"""A result is found by its static key only as long as what the nodes above it used stays the same."""

from __future__ import annotations

import importlib
import shutil
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow
from nodegraph.cache import keys
from nodegraph.cache.file_digests import FileDigests
from nodegraph.cache.store.records import Alias, alias_bytes, read_alias
from nodegraph.run.node import outcome
from tests.support.copying_workers import use_copying_workers, with_both_workers
from tests.support.imported_modules import forget_modules_in
from tests.support.slow import slow_after

KEY = "ab" * 32

ABOVE = """
import importlib
from nodegraph import hookimpl, node

class Model:
    def __init__(self, factor):
        self.factor = factor

@node("Kept")
def kept(x: int) -> int:
    return importlib.import_module("helper_" + "above").FACTOR * x

@node("Unkept", keep=False)
def unkept(x: int) -> int:
    return importlib.import_module("helper_" + "above").FACTOR * x

@node("Load")
def load(x: int) -> Model:
    return Model(importlib.import_module("helper_" + "above").FACTOR * x)

@hookimpl
def register_nodes(register):
    for function in (kept, unkept, load):
        register(function)
"""

BELOW = """
from typing import Any
from nodegraph import hookimpl, node

@node("Plus")
def plus(y: Any) -> int:
    return getattr(y, "factor", y) + 100

@node("Pass", keep=False)
def passed(y: Any) -> Any:
    return y

@hookimpl
def register_nodes(register):
    register(plus)
    register(passed)
"""

BOXES = """
import hashlib
from nodegraph import hookimpl
from kinds_above import Box

class BoxCodec:
    name, suffix, extension = "box", ".box", ".txt"

    def digest(self, value):
        return hashlib.sha256(str(value.content).encode()).hexdigest()

    def save(self, value, path):
        path.write_text(str(value.content))

    def load(self, path):
        return Box(int(path.read_text()) + {error})

    def export(self, value):
        return [str(value.content).encode()]

    def embed(self, data, metadata):
        return data

    def check(self, value):
        return None

    def size(self, value):
        return 8

@hookimpl
def register_codecs(register):
    register(Box, BoxCodec())
"""

USERS = """
from nodegraph import hookimpl, node
from kinds_above import Box

@node("Put")
def put(x: int) -> Box:
    return Box(x)

@node("Put away", keep=False)
def put_away(x: int) -> Box:
    return Box(x)

@node("Put as any")
def put_as_any(x: int) -> object:
    return Box(x)

@node("Put in a list", keep=False)
def put_in_a_list(x: int) -> list[Box]:
    return [Box(x)]

@node("Look")
def look(box: object) -> int:
    return getattr(box, "content", None) or box[0].content

@node("Twice")
def twice(y: int) -> int:
    return 2 * y

@hookimpl
def register_nodes(register):
    for function in (put, put_away, put_as_any, put_in_a_list, look, twice):
        register(function)
"""

MakeEngine = Callable[[], Engine]
Write = Callable[[str, str], None]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    for folder in ("lib", "plugins"):
        (tmp_path / folder).mkdir()
    monkeypatch.syspath_prepend(tmp_path / "lib")

    def write(name: str, text: str) -> None:
        (tmp_path / name).write_text(textwrap.dedent(text))
        time.sleep(0.02)  # a module that may have changed since it was imported is never the same again

    yield write
    forget_modules_in(tmp_path)


@pytest.fixture
def make_engine(tmp_path: Path, write: Write) -> MakeEngine:
    """Makes an engine as a new process would have it: the helper is not imported yet."""
    write("plugins/above.py", ABOVE)
    write("plugins/below.py", BELOW)
    write("lib/helper_above.py", "FACTOR = 1")

    def make() -> Engine:
        sys.modules.pop("helper_above", None)
        importlib.invalidate_caches()
        return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])

    return make


def stacked(*types: str) -> Workflow:
    """Nodes called "n0", "n1", ..., each below the one before."""
    workflow = Workflow("stacked")
    last = workflow.add(types[0], name="n0", x=1)
    for index, type in enumerate(types[1:], start=1):
        input = {"Look": "box", "Twice": "y"}.get(type, "y")
        last = workflow.add(type, name=f"n{index}", **{input: last})
    workflow.output("out", last)
    return workflow


def below_a_hit(make_engine: MakeEngine, workflow: Workflow) -> None:
    """Run the first node, and in another process the nodes below it, which imports nothing."""
    make_engine().run(workflow, targets=["n0"])
    result = make_engine().run(workflow)
    assert (result["out"] % 100, result.nodes["n0"].status) == (1, "cached")
    assert "helper_above" not in sys.modules


@pytest.mark.parametrize(
    "types", slow_after(1, [("Kept", "Plus"), ("Kept", "Plus", "Plus"), ("Kept", "Pass", "Plus", "Plus")]), ids=len
)
def test_module_that_a_node_above_imports_by_a_computed_name_is_compared_at_a_hit(
    make_engine: MakeEngine, write: Write, types: tuple[str, ...]
) -> None:
    workflow = stacked(*types)
    below_a_hit(make_engine, workflow)
    again = make_engine().run(workflow)
    assert (again.ran, again.nodes["n0"].status) == ((), "pruned")
    write("lib/helper_above.py", "FACTOR = 2")
    assert make_engine().run(workflow)["out"] % 100 == 2


@pytest.mark.parametrize("how", slow_after(1, ["lookup", "verification", "same value"]))
def test_static_key_that_is_learned_later_has_the_imports_above_too(
    make_engine: MakeEngine, tmp_path: Path, write: Write, how: str
) -> None:
    workflow = stacked("Kept", "Plus", "Plus")
    below_a_hit(make_engine, workflow)
    if how == "lookup":
        shutil.rmtree(tmp_path / "cache" / "aliases")
        assert make_engine().run(workflow).cached == ("n2",)
    elif how == "verification":
        assert set(make_engine().run(workflow, verify=1.0).verified) == {"n0", "n1", "n2"}
    else:
        write("lib/helper_above.py", "FACTOR = 1  # the same")
        assert make_engine().run(workflow)["out"] == 201
    write("lib/helper_above.py", "FACTOR = 2")
    assert make_engine().run(workflow)["out"] == 202


def test_static_key_is_learned_again_after_an_edit(make_engine: MakeEngine, write: Write) -> None:
    workflow = stacked("Kept", "Plus", "Plus")
    below_a_hit(make_engine, workflow)
    write("lib/helper_above.py", "FACTOR = 2")
    assert make_engine().run(workflow)["out"] == 202
    again = make_engine().run(workflow)
    assert (again["out"], again.ran, again.nodes["n0"].status) == (202, (), "pruned")


@with_both_workers
@pytest.mark.parametrize("first", slow_after(1, ["Unkept", "Load"]))
def test_import_of_a_node_whose_value_is_not_stored_is_compared_at_a_hit(
    make_engine: MakeEngine, write: Write, first: str, workers: str
) -> None:
    """The digest of such a value follows from the key, which does not cover what the node imported."""
    workflow = stacked(first, "Plus")
    engine = make_engine()
    if workers == "copying":
        use_copying_workers(engine)
    importlib.import_module("helper_above")  # before nodes run: only plugins with computed imports depend on it
    assert engine.run(workflow)["out"] == 101
    assert make_engine().run(workflow).cached == ("n1",)
    write("lib/helper_above.py", "FACTOR = 2")
    assert make_engine().run(workflow)["out"] == 102


def test_result_that_an_earlier_version_stored_below_a_model_is_a_miss(
    make_engine: MakeEngine, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stored the same key without what the nodes above had imported."""
    workflow = stacked("Load", "Plus")
    with monkeypatch.context() as context:
        context.setattr(keys, "FORMAT", 3)
        context.setattr(outcome, "joined", lambda imports, inherited: imports)
        assert make_engine().run(workflow)["out"] == 101
    write("lib/helper_above.py", "FACTOR = 2")
    assert make_engine().run(workflow)["out"] == 102


def test_one_engine_compares_what_it_did_not_import(make_engine: MakeEngine, write: Write) -> None:
    workflow = stacked("Kept", "Plus")
    make_engine().run(workflow, targets=["n0"])
    engine = make_engine()
    assert engine.run(workflow)["out"] == 101
    write("lib/helper_above.py", "FACTOR = 2")
    assert engine.run(workflow)["out"] == 102


def test_plan_looks_at_each_module_once(make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = Workflow("several")
    for x in range(3):
        workflow.output(f"out{x}", workflow.add("Kept", name=f"n{x}", x=x))
    make_engine().run(workflow)
    looked: list[str] = []
    unchanged = FileDigests.unchanged

    def counted(self: FileDigests, path: Path | str, digest: str) -> bool:
        looked.append(Path(path).name)
        return unchanged(self, path, digest)

    monkeypatch.setattr(FileDigests, "unchanged", counted)
    engine = make_engine()
    for _ in range(2):
        looked.clear()
        assert engine.plan(workflow).names("cached") == ["n0", "n1", "n2"]
        assert looked.count("helper_above.py") == 1


def test_nodes_without_imports_have_plain_static_keys(make_engine: MakeEngine, tmp_path: Path) -> None:
    workflow = stacked("Kept", "Plus")
    below_a_hit(make_engine, workflow)
    plain = Workflow("plain")
    plain.output("out", plain.add("Plus", name="n1", y=plain.add("Plus", name="n0", y=1)))
    before = set(tmp_path.glob("cache/aliases/*/*"))
    make_engine().run(plain)
    (alias,) = set(tmp_path.glob("cache/aliases/*/*")) - before
    assert len(alias.read_bytes()) == 64


# --- codecs


@pytest.fixture
def with_error(tmp_path: Path, write: Write) -> Callable[[int], Engine]:
    """Makes an engine whose codec adds an error to what it reads."""
    write("plugins/users.py", USERS)
    write("lib/kinds_above.py", "class Box:\n    def __init__(self, content):\n        self.content = content\n")

    def make(error: int) -> Engine:
        write("plugins/boxes.py", BOXES.replace("{error}", str(error)))
        return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])

    return make


@pytest.mark.parametrize("first", slow_after(1, ["Put", "Put away", "Put as any", "Put in a list"]))
def test_nodes_below_a_value_are_not_found_by_other_code_of_its_codec(with_error: Callable[[int], Engine], first: str) -> None:
    workflow = stacked(first, "Look", "Twice")
    assert with_error(5).run(workflow)["out"] == 12
    assert with_error(5).run(workflow).cached == ("n2",)
    assert with_error(0).run(workflow)["out"] == 2
    assert with_error(0).run(workflow).cached == ("n2",)


def test_codec_that_is_registered_later_changes_the_keys_below(with_error: Callable[[int], Engine], tmp_path: Path) -> None:
    workflow = stacked("Put", "Look", "Twice")
    with_error(5)
    (tmp_path / "plugins" / "boxes.py").unlink()
    folders = [tmp_path / "plugins"]
    assert Engine(tmp_path / "cache", plugin_dirs=folders).run(workflow)["out"] == 2
    assert Engine(tmp_path / "cache", plugin_dirs=folders).run(workflow).cached == ("n2",)
    assert with_error(5).run(workflow)["out"] == 12


# --- on disk


@pytest.mark.parametrize("alias", [Alias(KEY), Alias(KEY, {"/lib/helper.py": "cd", "codec box": ""})])
def test_alias_is_read_as_it_was_written(alias: Alias) -> None:
    assert read_alias(alias_bytes(alias)) == alias


@pytest.mark.parametrize("data", [b"ab", b"\xff" * 64, *(f"{KEY}\n{text}".encode() for text in ("", "[]", '{"a":1}', "{"))])
def test_damaged_alias_is_not_followed(data: bytes) -> None:
    assert read_alias(data) is None


def test_name_that_no_file_can_have_is_no_hit(tmp_path: Path) -> None:
    """In a damaged record or alias."""
    cache = Engine(tmp_path / "cache").cache
    cache.alias("a" * 64, KEY, {"/lib/\0.py": "cd"})
    assert cache.resolve("a" * 64) is None
