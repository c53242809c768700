"""Outputs whose names are taken: a file with other content is kept, the same file is left as it is."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow
from nodegraph.run.outputs.own_files import OwnFiles
from tests.support.blob_outputs import making, written


def test_file_with_other_content_is_kept(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "wf-blob.bin").write_bytes(b"mine")
    assert written(engine, tmp_path, making()) == ["wf-blob-2.bin"]
    assert written(engine, tmp_path, making(), params={"made.text": "y"}) == ["wf-blob-3.bin"]
    assert written(engine, tmp_path, making()) == ["wf-blob-2.bin"]
    assert (tmp_path / "wf-blob.bin").read_bytes() == b"mine"
    assert (tmp_path / "wf-blob-2.bin").read_bytes().startswith(b"x0\n")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_number_comes_before_that_of_the_batch(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "wf-blob-1.bin").write_bytes(b"mine")
    assert written(engine, tmp_path, making(count=2)) == ["wf-blob-2-0.bin", "wf-blob-2-1.bin"]
    assert not (tmp_path / "wf-blob-0.bin").exists()  # a batch is written as a whole


def test_numbers_of_two_outputs_do_not_meet(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"mine")
    workflow = making("x")
    workflow.output("other", workflow.add("Make", text="y"), "x-2")
    assert sorted(written(engine, tmp_path, workflow)) in (["x-2-2.bin", "x-2.bin"], ["x-2.bin", "x-3.bin"])


def test_same_file_is_left_as_it_is(engine: Engine, tmp_path: Path) -> None:
    first = engine.run(making(count=2), out=tmp_path)
    before = [(path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) for path in first.outputs["blob"]]
    second = engine.run(making(count=2), out=tmp_path, force=["made"])
    assert second.outputs == first.outputs
    assert [(path.stat().st_mtime_ns, path.stat().st_ino, path.read_bytes()) for path in second.outputs["blob"]] == before


def test_batch_that_was_not_finished_is_completed(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / engine.run(making(count=3), out=tmp_path).outputs["blob"][1]).unlink()
    assert written(engine, tmp_path, making(count=3)) == ["wf-blob-0.bin", "wf-blob-1.bin", "wf-blob-2.bin"]


def test_same_value_of_another_workflow_is_another_file(engine: Engine, tmp_path: Path) -> None:
    workflow = making()
    workflow.param("unused", 1)
    assert written(engine, tmp_path, workflow) == ["wf-blob.bin"]
    assert written(engine, tmp_path, workflow, params={"unused": 2}) == ["wf-blob-2.bin"]


def test_file_that_was_edited_is_another_one(engine: Engine, tmp_path: Path) -> None:
    path = engine.run(making(), out=tmp_path).outputs["blob"][0]
    path.write_bytes(b"X" + path.read_bytes()[1:])
    assert written(engine, tmp_path, making()) == ["wf-blob-2.bin"]


def test_same_digest_counts_even_if_the_file_is_encoded_in_another_way(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.run(making(), out=tmp_path)
    codec = engine.plugins.codecs.by_name("blob")
    monkeypatch.setattr(codec, "export", lambda value: [b"compressed " + item for item in value.items], raising=False)
    assert written(Engine(None, plugins=engine.plugins), tmp_path, making()) == ["wf-blob.bin"]


def test_files_without_metadata_are_compared_as_they_are(engine: Engine, tmp_path: Path) -> None:
    workflow = Workflow("wf")
    workflow.output("sum", workflow.add("Plus", name="sum", a=1.0))
    assert written(engine, tmp_path, workflow) == ["wf-sum.json"]
    assert written(engine, tmp_path, workflow, params={"sum.a": 2.0}) == ["wf-sum-2.json"]
    assert written(engine, tmp_path, workflow) == ["wf-sum.json"]


@pytest.mark.parametrize("taken", ["folder", "link"])
def test_whatever_has_the_name_is_kept(engine: Engine, tmp_path: Path, taken: str) -> None:
    path = tmp_path / "wf-blob.bin"
    if taken == "folder":
        path.mkdir()
    elif os.name == "nt":
        pytest.skip("symbolic links need a privilege on Windows")
    else:
        path.symlink_to("nowhere")
    assert written(engine, tmp_path, making()) == ["wf-blob-2.bin"]
    assert path.is_dir() or path.is_symlink()


def test_overwrite_replaces_files_completely(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "wf-blob.bin").write_bytes(b"earlier" * 1000)
    assert written(engine, tmp_path, making(), overwrite=True) == ["wf-blob.bin"]
    assert (tmp_path / "wf-blob.bin").read_bytes().startswith(b"x0\n")
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["wf-blob.bin"]


@pytest.mark.parametrize("links", [True, False])
def test_runs_that_write_at_once_lose_nothing(
    make_engine: Callable[..., Engine], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Each run sees that every name is free before another one takes it."""
    if not links:
        monkeypatch.setattr(Path, "hardlink_to", raise_no_links)
    texts = [f"text {i}" for i in range(6)]
    barrier = threading.Barrier(len(texts))
    real = os.path.lexists

    def lexists(path: Any) -> bool:
        found = real(path)
        with contextlib.suppress(threading.BrokenBarrierError):
            if str(path).endswith("wf-blob-0.bin"):
                barrier.wait(5)
        return found

    monkeypatch.setattr(os.path, "lexists", lexists)
    engine = make_engine()
    runs = [engine.start(making(count=2), params={"made.text": text}, out=tmp_path / "out") for text in texts]
    paths = [run.result().outputs["blob"] for run in runs]
    assert len({path for batch in paths for path in batch}) == 2 * len(texts)
    for text, batch in zip(texts, paths, strict=True):
        assert [path.read_bytes().split(b"\n")[0].decode() for path in batch] == [f"{text}0", f"{text}1"]
        assert len({path.name.rpartition("-")[0] for path in batch}) == 1
    assert len(list((tmp_path / "out").iterdir())) == 2 * len(texts)


def raise_no_links(self: Path, target: Path) -> None:
    raise OSError(errno.EPERM, "no hard links here")


def test_batch_gives_way_to_a_file_that_appears_meanwhile(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.hardlink_to

    def hardlink_to(self: Path, target: Path) -> None:
        if self.name == "wf-blob-1.bin":
            self.write_bytes(b"mine")
        real(self, target)

    monkeypatch.setattr(Path, "hardlink_to", hardlink_to)
    assert written(engine, tmp_path, making(count=2)) == ["wf-blob-2-0.bin", "wf-blob-2-1.bin"]
    assert not (tmp_path / "wf-blob-0.bin").exists()
    assert (tmp_path / "wf-blob-1.bin").read_bytes() == b"mine"


def test_own_files_are_replaced_unless_somebody_changed_them(engine: Engine, tmp_path: Path) -> None:
    own = OwnFiles(prefix="0001-")

    def run(text: str) -> list[str]:
        return written(engine, tmp_path, making(), params={"made.text": text}, own_files=own)

    assert run("x") == run("y") == ["0001-wf-blob.bin"]
    assert (tmp_path / "0001-wf-blob.bin").read_bytes().startswith(b"y0\n")
    (tmp_path / "0001-wf-blob.bin").write_bytes(b"edited")
    assert run("z") == ["0001-wf-blob-2.bin"]
    assert run("x") == ["0001-wf-blob-2.bin"]
    assert (tmp_path / "0001-wf-blob.bin").read_bytes() == b"edited"
