"""A codec whose code changes: what it stored before is not read with the new code, and its digests are others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from nodegraph import Engine, Workflow

TYPES = """
import hashlib
from nodegraph import hookimpl

class Note:
    def __init__(self, text):
        self.text = text

class Signed(Note):
    def __init__(self, text, author):
        super().__init__(text)
        self.author = author

class NoteCodec:
    name, suffix, extension = "note", ".note", ".txt"

    def digest(self, value):
        return hashlib.sha256({digest}.encode()).hexdigest()

    def save(self, value, path):
        path.write_text({save})

    def load(self, path):
        return Note({load})

    def export(self, value):
        return [{export}.encode()]

    def embed(self, data, metadata):
        return data

    def check(self, value):
        return None

    def size(self, value):
        return len(value.text)

@hookimpl
def register_codecs(register):
    register(Note, NoteCodec())
"""
FIRST = {"digest": "value.text", "save": "value.text", "load": "path.read_text()", "export": "value.text"}

NODES = """
from nodegraph import hookimpl, node

Note = object

@node("Write")
def write(text: str) -> object:
    import sys
    types = [module for name, module in sys.modules.items() if name.startswith("nodegraph_plugin_types_of_notes")][-1]
    return types.Signed(text, "me") if text.startswith("signed") else types.Note(text)

@node("Read")
def read(note: object) -> str:
    return note.text

@hookimpl
def register_nodes(register):
    for function in (write, read):
        register(function)
"""


@pytest.fixture
def make_engine(tmp_path: Path) -> Callable[..., Engine]:
    """Makes an engine whose codec has this code; the code of the nodes stays the same."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "nodes_of_notes.py").write_text(NODES)

    def make(**code: str) -> Engine:
        (folder / "types_of_notes.py").write_text(TYPES.format(**{**FIRST, **code}))
        return Engine(tmp_path / "cache", plugin_dirs=[folder])

    return make


def noted(text: str) -> Workflow:
    workflow = Workflow("noted")
    workflow.output("read", workflow.add("Read", name="read", note=workflow.add("Write", name="write", text=text)))
    return workflow


CHANGES = {
    "format": ({"save": "value.text[::-1]", "load": "path.read_text()[::-1]"}, "text"),
    "reading": ({"load": "path.read_text().upper()"}, "TEXT"),
}


@pytest.mark.slow
@pytest.mark.parametrize(("code", "expected"), CHANGES.values(), ids=CHANGES)
def test_value_is_not_read_by_other_code_of_its_codec(
    make_engine: Callable[..., Engine], code: dict[str, str], expected: str
) -> None:
    assert make_engine().run(noted("text"))["read"] == "text"
    assert set(make_engine().run(noted("text"), force=["read"]).cached) == {"write"}
    result = make_engine(**code).run(noted("text"), force=["read"])
    assert (result["read"], result.cached) == (expected, ())
    assert result.notices == ()  # the digests of other code say nothing about the node


def test_digest_that_covers_something_else_mixes_up_nothing(make_engine: Callable[..., Engine]) -> None:
    make_engine().run(noted("one"))
    result = make_engine(digest="'one'").run(noted("two"))
    assert (result["read"], result.cached) == ("two", ())


def test_files_that_other_code_exported_are_not_used(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    workflow = Workflow("exported")
    workflow.output("note", workflow.add("Write", name="write", text="text"), save="note")
    targets = ["write"]
    make_engine().run(workflow, targets=targets, out=tmp_path / "one")
    make_engine(export="value.text.upper()").run(workflow, targets=targets, out=tmp_path / "two")
    assert [path.read_text() for path in sorted(tmp_path.glob("*/*.txt"))] == ["text", "TEXT"]


@pytest.mark.parametrize("directory", [True, False])
def test_field_that_a_subclass_adds_is_lost_for_every_reader_with_a_notice(
    make_engine: Callable[..., Engine], directory: bool
) -> None:
    engine = make_engine() if directory else Engine(None, plugins=make_engine().plugins)
    results = [engine.run(noted("signed"), targets=["write", "read"]) for _ in range(2)]
    assert results[1].cached == ("write", "read")
    assert all(not hasattr(result["write"], "author") for result in results)
    assert {notice.message for notice in results[0].notices} == {"'output' is stored as Note, without author of Signed"}
