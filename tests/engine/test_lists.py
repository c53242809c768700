"""Lists of values with a codec: their items are stored one by one, and are outputs of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from nodegraph import NodeError, Workflow
from nodegraph.cache.store.records import Record
from tests.support.copying_workers import with_both_workers


def cut(text: str) -> Workflow:
    w = Workflow("lists")
    made = w.add("CutText", name="cut", text=text)
    w.output("blobs", made.output)
    w.output("sizes", w.add("Sizes", name="sizes", blobs=made).output)
    return w


def blobs_on_disk(engine) -> list[Path]:
    return [path for path in engine.cache_dir.rglob("*.blob") if path.is_file()]


def records(engine) -> list[Record]:
    return sorted(engine.cache.entries(), key=lambda record: record.created)


def test_items_are_stored_under_their_own_digests(make_engine, stubs):
    engine = make_engine()
    first = engine.run(cut("a b a"))
    assert first["blobs"] == [stubs.Blob(b"a"), stubs.Blob(b"b"), stubs.Blob(b"a")]
    assert len(blobs_on_disk(engine)) == 2
    engine.run(cut("a c b"))
    assert len(blobs_on_disk(engine)) == 3  # only `c` is new
    first, second = ({port: value.digest for port, value in r.outputs.items()} for r in records(engine) if r.node == "cut")
    assert first.keys() == second.keys() == {"output", "output[0]", "output[1]", "output[2]"}
    assert (first["output[0]"], first["output[1]"]) == (second["output[0]"], second["output[2]"]) != (first["output"], "")


def test_a_list_is_found_in_the_cache_by_another_process(make_engine, stubs):
    make_engine().run(cut("a b"))
    again = make_engine().run(cut("a b"))
    assert (again.ran, set(again.cached)) == ((), {"cut", "sizes"})
    assert again["blobs"] == [stubs.Blob(b"a"), stubs.Blob(b"b")]
    assert again["cut.output[1]"] == stubs.Blob(b"b")
    assert stubs.CALLS == ["CutText", "Sizes"]


def test_a_list_without_one_of_its_items_is_computed_again(make_engine, stubs):
    engine = make_engine()
    engine.run(cut("a b"))
    blobs_on_disk(engine)[0].unlink()
    assert make_engine().run(cut("a b")).ran == ("cut",)


@pytest.mark.parametrize("text", ["", "one"])
def test_lists_of_no_items_and_of_one(make_engine, stubs, tmp_path, text):
    for _ in range(2):
        result = make_engine().run(cut(text), out=tmp_path / "out")
        assert result["blobs"] == [stubs.Blob(word.encode()) for word in text.split()]
        assert [path.name for path in result.outputs["blobs"]] == ["lists-blobs-0.bin"][: len(text.split())]
    assert stubs.CALLS.count("CutText") == 1


def test_a_list_writes_a_numbered_file_for_each_item(make_engine, stubs, tmp_path):
    first = make_engine().run(cut("a b"), out=tmp_path / "out")
    assert [path.name for path in first.outputs["blobs"]] == ["lists-blobs-0.bin", "lists-blobs-1.bin"]
    assert [path.read_bytes()[:2] for path in first.outputs["blobs"]] == [b"a\n", b"b\n"]
    decoded, exported = stubs.BlobCodec.decoded, stubs.BlobCodec.exported
    again = make_engine().run(cut("a b"), out=tmp_path / "out")
    assert again.outputs == first.outputs
    assert (stubs.BlobCodec.decoded, stubs.BlobCodec.exported) == (decoded, exported)  # nothing was read or exported again


def test_numbers_are_numbered_files_like_other_lists(make_engine, tmp_path):
    """What a node returns as a list, and what `each` makes; also lists of no items, and from the cache."""
    workflow = Workflow("numbers")
    workflow.output("list", workflow.add("Count", n=2))
    workflow.output("each", workflow.add("Number", each={"value": [5, 6]}))
    workflow.output("lists", workflow.add("Count", each={"n": [1, 2]}))
    workflow.output("none", workflow.add("Count", n=0))
    for _ in range(2):
        written = make_engine().run(workflow, out=tmp_path / "out").outputs
        found = {name: {path.name: json.loads(path.read_text()) for path in paths} for name, paths in written.items()}
        assert found == {
            "list": {"numbers-list-0.json": 0, "numbers-list-1.json": 1},
            "each": {"numbers-each-0.json": 5, "numbers-each-1.json": 6},
            "lists": {"numbers-lists-0-0.json": 0, "numbers-lists-1-0.json": 0, "numbers-lists-1-1.json": 1},
            "none": {},
        }
    assert len([*(tmp_path / "out").iterdir()]) == 7


def test_an_item_that_did_not_change_is_exported_once(make_engine, stubs, tmp_path):
    make_engine().run(cut("a b"), out=tmp_path / "first")
    before = stubs.BlobCodec.exported
    make_engine().run(cut("b a c"), out=tmp_path / "second")
    assert stubs.BlobCodec.exported == before + 1


def test_without_a_cache_directory_lists_are_kept_in_memory(make_engine, stubs, tmp_path):
    engine = make_engine(cache_dir=None)
    engine.run(cut("a b"))
    again = engine.run(cut("a b"), out=tmp_path / "out")
    assert again.ran == ()
    assert again["blobs"] == [stubs.Blob(b"a"), stubs.Blob(b"b")]
    assert [path.name for path in again.outputs["blobs"]] == ["lists-blobs-0.bin", "lists-blobs-1.bin"]


def test_lists_of_lists(make_engine, stubs, tmp_path):
    w = Workflow("lists")
    w.output("rows", w.add("CutRows", name="cut", text="ab c").output)
    for _ in range(2):
        result = make_engine().run(w, out=tmp_path / "out")
        assert result["rows"] == [[stubs.Blob(b"a"), stubs.Blob(b"b")], [stubs.Blob(b"c")]]
        assert [path.name for path in result.outputs["rows"]] == [f"lists-rows-{i}.bin" for i in range(3)]
        assert result["cut.output[0][1]"] == stubs.Blob(b"b")


def test_the_record_lists_the_items(make_engine, stubs):
    engine = make_engine()
    result = engine.run(cut("a b"))
    record = (engine.cache_dir / "runs" / f"{result.run}.json").read_text()
    assert '"output[1]": ' in record


def test_a_bad_item_is_named(make_engine, stubs):
    with pytest.raises(NodeError, match=r"'output': item 1: it holds NaN"):
        make_engine().run(cut("a nan"))


def test_the_cache_check_reads_items(make_engine, stubs):
    engine = make_engine()
    engine.run(cut("a b"))
    path = blobs_on_disk(engine)[0]
    path.chmod(0o644)
    path.write_bytes(b"[]")
    assert make_engine().run(cut("a b")).ran == ("cut",)


@with_both_workers
def test_workers_without_shared_memory_pass_lists_on(make_engine, stubs, workers):
    result = make_engine().run(cut("a bc"))
    assert result["sizes"] == [1, 2]
