"""An input that names a file (`Reads`) also takes the value of a node, if its type does and a codec stores the value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph.run.result import Result

PLUGIN = """
import hashlib
from dataclasses import dataclass
from typing import Annotated
from nodegraph import Reads, Resource, hookimpl, node

@dataclass(frozen=True)
class Table:
    words: str

class TableCodec:
    name, suffix, extension = "table", ".table", ".txt"
    def digest(self, value): return hashlib.sha256(value.words.encode()).hexdigest()
    def save(self, value, path): path.write_text(value.words)
    def load(self, path): return Table(path.read_text())
    def export(self, value): return [value.words.encode()]
    def embed(self, data, metadata): return data
    def check(self, value): return None
    def size(self, value): return len(value.words)

class Unstored:
    pass

def find(text, base):
    return Resource(base / text, {"file": base / text})

@node("Upper")
def upper(text: str, unused: int = 0) -> Table:
    return Table(text.upper())

@node("Unstorable")
def unstorable() -> Unstored:
    return Unstored()

@node("Count")
def count(table: Annotated[object, Reads(find, by_content=True)]) -> int:
    return len((table.words if isinstance(table, Table) else table.read_text()).split())

@hookimpl
def register_nodes(register):
    register(upper)
    register(unstorable)
    register(count)

@hookimpl
def register_codecs(register):
    register(Table, TableCodec())
"""


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Result]:
    """Runs `Count` on a file by its name, or on what a node of another type returns."""
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "tables.py").write_text(PLUGIN)
    (tmp_path / "words.txt").write_text("three words here")

    def run(source: str, **inputs: object) -> Result:
        workflow = Workflow(base=tmp_path)
        table = workflow.add(source, name="made", **inputs) if inputs or "." not in source else source
        workflow.output("out", workflow.add("Count", name="count", table=table))
        with Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"]) as engine:
            return engine.run(workflow)

    return run


def test_file_and_value(run):
    assert run("words.txt")["out"] == 3
    assert run("Upper", text="two words")["out"] == 2


def test_value_is_in_the_key_by_its_content(run):
    assert run("Upper", text="one two").ran == ("made", "count")
    assert run("Upper", text="ONE two").ran == ("made",)  # the same value
    assert run("Upper", text="one two", unused=1).ran == ("made",)
    assert run("Upper", text="one two three")["out"] == 3


def test_value_that_is_not_stored_is_refused(run):
    with pytest.raises(WorkflowError, match=r"'table' of node 'count' cannot be linked: its value must be known before the run"):
        run("Unstorable")
