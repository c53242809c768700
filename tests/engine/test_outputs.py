"""Outputs: their paths, complete writes and content."""

from __future__ import annotations

import errno
import json
import os
import re
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, OutputError, Workflow, WorkflowError
from nodegraph.run.events import Event, Notice, OutputWritten
from nodegraph.text import as_file_name
from tests.support.blob_outputs import making, written
from tests.support.plugin_folders import STUB_PLUGINS


def test_relative_folders_stay_the_same_if_the_current_directory_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path)
    engine = Engine("cache", plugin_dirs=[STUB_PLUGINS], on_event=lambda event: os.chdir(tmp_path / "other"))
    assert written(engine, Path("out"), making()) == ["wf-blob.bin"]
    assert (tmp_path / "out" / "wf-blob.bin").is_file()
    assert (tmp_path / "cache" / "CACHEDIR.TAG").is_file()
    assert list((tmp_path / "other").iterdir()) == []


def test_default_file_name_is_workflow_and_output(engine: Engine, tmp_path: Path) -> None:
    assert written(engine, tmp_path, making()) == ["wf-blob.bin"]


@pytest.mark.parametrize(
    ("save", "expected"),
    [
        ("{output}.bin", "blob.bin"),
        ("{output}.BIN", "blob.bin"),
        ("{workflow}/{seed}-{prompt}", "wf/7-a red house.bin"),
        ("{cfg}", "5.0.bin"),
        ("{{{seed}}}.bin", "{7}.bin"),
        ("v1.5.bin", "v1.5.bin"),
        ("./deep/er/x.bin", "deep/er/x.bin"),
        ("{flag}", "true.bin"),
        ("{evil}", "_.._etc_passwd.bin"),
        ("{up}/x", "_/x.bin"),
        ("{windows}", "C_Windows_nul.bin"),
        ("{long}", "y" * 80 + ".bin"),
        ("{long}-{long}", f"{'y' * 80}-{'y' * 80}.bin"),
    ],
)
def test_placeholders_are_replaced_by_params(engine: Engine, tmp_path: Path, save: str, expected: str) -> None:
    workflow = making(save, seed=7, prompt="a red\n house", cfg=5.0, flag=True, evil="../../etc/passwd")
    for name, value in {"up": "..", "windows": "C:\\Windows\\nul", "long": "y" * 5000}.items():
        workflow.param(name, value)
    assert written(engine, tmp_path, workflow) == [expected]


def test_path_in_a_template_becomes_its_file_name(engine: Engine, tmp_path: Path) -> None:
    workflow = making("{picture}")
    workflow.param("picture", "some/where/house.png", type="path")
    assert written(engine, tmp_path, workflow) == ["house.bin"]


@pytest.mark.parametrize(
    ("save", "message"),
    [
        ("{sed}.bin", r"no placeholder \{sed\}.*Did you mean 'seed'"),
        (
            "{nothing}.bin",
            r"There are \{date\}, \{device\}, \{key\}, \{long\}, .*\{workflow\}, \{node.input\}",
        ),
        ("{seed:03d}.bin", r"no placeholder \{seed:03d\}"),
        ("{seed.real}", r"no placeholder \{seed.real\}"),
        ("{0}", r"no placeholder \{0\}"),
        ("{", "is not a template"),
        ("../x.bin", "leads out of the output folder"),
        ("a/../../x.bin", "leads out of the output folder"),
        ("/tmp/x.bin", "leads out of the output folder"),
        ("C:/x.bin", "leads out of the output folder"),
        ("a\\b.bin", "not a file name on every platform"),
        ("nul.bin", "not a file name on every platform"),
        ("a/CON/x.bin", "not a file name on every platform"),
        ("com1.tar.bin", "not a file name on every platform"),
        ("COM\u00b2", "not a file name on every platform"),
        ("lpt9 .bin", "not a file name on every platform"),
        ("conout$", "not a file name on every platform"),
        ("{device}", "not a file name on every platform"),
        ("a /x", "not a file name on every platform"),
        ("ab:c", "not a file name on every platform"),
        ("x\ud800", "not a file name on every platform"),
        ("//server/share/x", "leads out of the output folder"),
        ("~/../x", "leads out of the output folder"),
        ("..", "leads out of the output folder"),
        ("{long}-{long}-{long}", "too long"),
        ("x\0.bin", "not a file name on every platform"),
        ("folder/", "names no file"),
        ("", "names no file"),
        ("x.png", r"written as \.bin, found \.png"),
        ("x" * 300, "too long"),
    ],
)
def test_check_refuses_a_wrong_template(engine: Engine, tmp_path: Path, save: str, message: str) -> None:
    workflow = making(save, seed=7, device="aux", long="y" * 5000)
    with pytest.raises(WorkflowError, match=message) as caught:
        engine.check(workflow)
    assert caught.value.problems[0].code == "E117"
    assert "output 'blob'" in str(caught.value)


def test_two_outputs_cannot_share_a_file(engine: Engine, tmp_path: Path) -> None:
    workflow = making("Same.bin")
    workflow.output("other", workflow.add("Make", text="y"), "same")
    with pytest.raises(WorkflowError, match=r"outputs 'blob' and 'other' go to the same file"):
        engine.check(workflow)
    workflow = making("same", count=2)
    workflow.output("other", workflow.add("Make", text="y"), "same-1")
    with pytest.raises(OutputError, match=r"outputs '(blob|other)' and '(blob|other)' both go to .*same-1\.bin"):
        engine.run(workflow, out=tmp_path)


@pytest.mark.parametrize(
    "value", ["", ".", "..", "a/b", "a\\b", "con", "\0", "x" * 500, "é" * 500, "\ud800", " . ", "a\tb\r\n", 1.5, None]
)
def test_any_value_makes_a_safe_name(value: Any, tmp_path: Path) -> None:
    name = as_file_name(value)
    assert name.strip(". ") == name != ""
    assert len(name.encode()) <= 80
    (tmp_path / f"{name}.bin").touch()
    assert [path.name for path in tmp_path.iterdir()] == [f"{name}.bin"]


def test_batch_files_are_numbered(engine: Engine, tmp_path: Path, events: list[Event]) -> None:
    assert written(engine, tmp_path, making("{output}.bin", count=3)) == ["blob-0.bin", "blob-1.bin", "blob-2.bin"]
    assert [event.path.name for event in events if isinstance(event, OutputWritten)] == ["blob-0.bin", "blob-1.bin", "blob-2.bin"]
    assert (tmp_path / "blob-1.bin").read_bytes().startswith(b"x1\n")


def test_numbers_are_written_as_json(engine: Engine, tmp_path: Path) -> None:
    workflow = Workflow("wf")
    workflow.output("sum", workflow.add("Plus", a=1.0))
    result = engine.run(workflow, out=tmp_path)
    assert json.loads(result.outputs["sum"][0].read_text()) == 2.0


def test_file_holds_the_workflow_and_the_run(engine: Engine, tmp_path: Path) -> None:
    workflow = making()
    workflow.param("text", "x")
    result = engine.run(workflow, params={"made.text": "y"}, out=tmp_path)
    data, metadata = result.outputs["blob"][0].read_bytes().split(b"\n", 1)
    chunks = json.loads(metadata)
    assert data == b"y0"
    assert Workflow.parse(chunks["nodegraph"]).nodes["made"].inputs["text"] == "y"
    run = json.loads(chunks["nodegraph_run"])
    assert run["run"] == result.run
    assert run["keys"] == {"made": result.nodes["made"].key}
    assert set(run["versions"]) == {"nodegraph", "python", "stub_pack"}
    again = Workflow.parse(chunks["nodegraph"])
    assert engine.run(again).cached == ("made",)


def test_cached_output_is_copied_without_decoding(
    make_engine: Callable[..., Engine], tmp_path: Path, stubs: types.ModuleType
) -> None:
    first = make_engine().run(making(count=2), out=tmp_path / "a")
    decoded = stubs.BlobCodec.decoded
    second = make_engine().run(making(count=2), out=tmp_path / "b")
    assert (stubs.BlobCodec.exported, stubs.BlobCodec.decoded) == (1, decoded)
    one, other = ([path.read_bytes().split(b"\n")[0] for path in result.outputs["blob"]] for result in (first, second))
    assert one == other == [b"x0", b"x1"]
    assert second.run.encode() in second.outputs["blob"][0].read_bytes()


def test_placeholders_of_the_run_and_of_inputs(engine: Engine, tmp_path: Path) -> None:
    workflow = making("{date}_{time}/{run}/{key}-{made.text}-{made.count}")
    result = engine.run(workflow, out=tmp_path)
    key = result.nodes["made"].key
    assert key is not None
    day, name = result.outputs["blob"][0].relative_to(tmp_path).parts[::2]
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", day)
    assert result.run.startswith(day.replace("_", "-").replace("-", "")[:8])
    assert result.outputs["blob"][0].parent.name == result.run
    assert name == f"{key[:12]}-x-1.bin"


def test_param_with_the_name_of_a_placeholder_comes_first(engine: Engine, tmp_path: Path) -> None:
    assert written(engine, tmp_path, making("{date}-{key}", date="today", key="k")) == ["today-k.bin"]


def test_nodes_without_a_key_have_no_key_in_a_name(engine: Engine, tmp_path: Path) -> None:
    workflow = Workflow("wf")
    workflow.output("dice", workflow.add("Dice"), "{key}")
    assert written(engine, tmp_path, workflow) == ["no-key.json"]
    assert written(engine, tmp_path, workflow) == ["no-key-2.json"]


def test_input_that_is_a_link_is_no_placeholder(engine: Engine) -> None:
    workflow = Workflow("wf")
    workflow.output("sum", workflow.add("Plus", name="sum", a=workflow.add("Number")), "{sum.a}")
    with pytest.raises(WorkflowError, match=r"\{sum\.a\} comes from another node, so its value is not known"):
        engine.check(workflow)


def test_file_and_choice_in_a_name(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("some words")
    workflow = Workflow("wf")
    read = workflow.add("Read", name="read", path=str(tmp_path / "note.txt"))
    workflow.output("text", workflow.add("Filtered", name="filtered", text=read), "{read.path}-{filtered.filter}")
    assert written(engine, tmp_path / "out", workflow) == ["note-upper.json"]


def test_run_without_a_folder_writes_nothing(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.iterdir())
    assert engine.run(making()).outputs == {}
    assert set(tmp_path.iterdir()) - before == {tmp_path / "cache"}


@pytest.mark.parametrize("blocked", ["file", "file/below"])
def test_unwritable_folder_fails_before_the_run(engine: Engine, tmp_path: Path, stubs: types.ModuleType, blocked: str) -> None:
    (tmp_path / "file").touch()
    workflow = Workflow("wf")
    workflow.output("sum", workflow.add("Plus", a=1.0))
    with pytest.raises(OutputError, match=r"cannot write .*--out"):
        engine.run(workflow, out=tmp_path / blocked)
    assert stubs.CALLS == []


def test_irreplaceable_file_is_an_error_without_traces(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "wf-blob.bin").mkdir()
    with pytest.raises(OutputError, match=r"cannot write .*wf-blob\.bin"):
        engine.run(making(), out=tmp_path, overwrite=True)
    assert [path.name for path in tmp_path.iterdir() if path.name != "cache"] == ["wf-blob.bin"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
@pytest.mark.parametrize("save", ["link/x", "link/deep/er/x", "inside/../link/x", "inside/out/x"])
def test_link_out_of_the_folder_is_refused(engine: Engine, tmp_path: Path, save: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "out" / "inside").mkdir()
    (tmp_path / "out" / "inside" / "out").symlink_to(tmp_path)
    with pytest.raises(OutputError if ".." not in save else WorkflowError, match="leads out of the output folder"):
        engine.run(making(save), out=tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "cache") == ["elsewhere", "out"]


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_links_within_the_folder_are_followed(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "real" / "below").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "here").symlink_to(tmp_path / "real" / "below")
    (tmp_path / "mine.txt").write_text("mine")
    (tmp_path / "real" / "below" / "x.bin").symlink_to(tmp_path / "mine.txt")
    assert written(engine, tmp_path / "out", making("here/x"), overwrite=True) == ["here/x.bin"]
    assert (tmp_path / "mine.txt").read_text() == "mine"  # the link was replaced, not what it leads to
    assert (tmp_path / "real" / "below" / "x.bin").read_bytes().startswith(b"x0\n")


@pytest.mark.skipif(os.name == "nt", reason="symbolic links need a privilege on Windows")
def test_circular_links_are_an_error(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").symlink_to("b")
    (tmp_path / "out" / "b").symlink_to("a")
    with pytest.raises(OutputError, match=r"cannot write .*--out"):
        engine.run(making("a/x"), out=tmp_path / "out")


@pytest.mark.skipif(os.name == "nt", reason="a limit of POSIX")
def test_too_long_path_fails_before_the_run(engine: Engine, tmp_path: Path, stubs: types.ModuleType) -> None:
    workflow = Workflow("wf")
    workflow.output("sum", workflow.add("Plus", a=1.0), "a/" * 3000 + "x")
    with pytest.raises(OutputError, match=r"cannot write .*File name too long"):
        engine.run(workflow, out=tmp_path / "out")
    assert stubs.CALLS == []


@pytest.mark.parametrize("failing", ["write_bytes", "replace"])
def test_full_disk_leaves_only_complete_files(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    real, count = getattr(Path, failing), []

    def full(self: Path, argument: Any) -> Any:
        if tmp_path / "out" not in self.parents:
            return real(self, argument)
        count.append(self)
        if len(count) == 3:
            if failing == "write_bytes":
                real(self, argument[:1])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(self, argument)

    monkeypatch.setattr(Path, failing, full)
    with pytest.raises(OutputError, match=r"cannot write .*wf-blob-2\.bin: No space left"):
        engine.run(making(count=4), out=tmp_path / "out", overwrite=failing == "replace")
    left = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert set(left) == {"wf-blob-0.bin", "wf-blob-1.bin"}
    assert all(data.endswith(b"}") for data in left.values())


def test_target_without_a_file_form_is_not_written(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("abc")
    workflow = Workflow("wf")
    workflow.add("Load", name="loaded", path=str(tmp_path / "weights"))
    result = engine.run(workflow, targets=["loaded.model", "loaded.size"], out=tmp_path / "out")
    assert set(result.outputs) == {"loaded.size"}
    assert result.notices == (Notice("loaded", "target 'loaded.model' is Model, which cannot be written to a file"),)


def test_output_without_a_file_form_is_an_error(engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workflow = making()
    monkeypatch.setattr(engine.plugins.codecs.by_name("blob"), "export", lambda value: 1 / 0, raising=False)
    with pytest.raises(OutputError, match=r"output 'blob' cannot be made a \.bin file"):
        engine.run(workflow, out=tmp_path)
