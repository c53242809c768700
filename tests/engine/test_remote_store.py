"""Machines with cache directories of their own share a store: one computes, the others find it, and what they find is true."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import threading
import types
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow
from nodegraph.cache.store.remote import claims, names, remote_store, tiered_store
from nodegraph.cache.store.remote.objects import Objects, ObjectsError
from nodegraph.cache.store.remote.seals import Seal
from nodegraph.cache.store.store import Store
from tests.support.other_process import end, kill, wait_for
from tests.support.shared_stores import WRITES, FaultyObjects, blob_workflow, objects_of, refuse, warnings_of

KEY = "a key that only the team knows"


@pytest.fixture(autouse=True)
def _faulty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tiered_store, "Objects", FaultyObjects)
    monkeypatch.setattr(remote_store, "PAUSES_SECONDS", (0.0, 0.0))
    monkeypatch.setattr(claims, "FIRST_PAUSE_SECONDS", 0.01)


@pytest.fixture(params=["memory", pytest.param("file", marks=pytest.mark.slow)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return address(tmp_path, request.param)


def address(tmp_path: Path, kind: str) -> str:
    if kind == "memory":
        return f"memory:///{tmp_path.name}"
    (tmp_path / "shared").mkdir()
    return f"file://{tmp_path}/shared"


@pytest.fixture
def machine(make_engine: Callable[..., Engine], tmp_path: Path) -> Callable[..., Engine]:
    """Makes the engine of a machine with a cache directory of its own, and the given shared store."""

    def make(name: str, url: str, **options: Any) -> Engine:
        return make_engine(cache_dir=tmp_path / name, cache_remote=url, **options)

    return make


def compute(engine: Engine, workflow: Workflow | None = None, **options: Any) -> Any:
    """Run, and wait until the results are in the shared store."""
    result = engine.run(workflow or blob_workflow(), **options)
    engine.finish_uploads()
    return result


def objects_in(url: str) -> dict[str, tuple[bytes, str]]:
    objects = Objects(url)
    return {info.name: objects.get(info.name) or (b"", "") for info in objects.list()}


def change(url: str, kind: str, how: Callable[[bytes], bytes]) -> list[str]:
    """Change the content of every object of a kind. Returns their names."""
    objects = Objects(url)
    changed = [name for name in objects_in(url) if (parsed := names.parse(name)) is not None and parsed.kind == kind]
    for name in changed:
        found = objects.get(name)
        assert found is not None
        objects.put(name, how(found[0]))
    assert changed
    return changed


def test_another_machine_finds_what_one_has_computed(
    machine: Callable[..., Engine], url: str, stubs: types.ModuleType, tmp_path: Path, events: list[Any]
) -> None:
    first = compute(machine("first", url), out=tmp_path / "out")
    assert first.ran == ("folded", "made")
    decoded = stubs.BlobCodec.decoded
    second = compute(machine("second", url), out=tmp_path / "other")
    assert second.ran == ()
    assert stubs.CALLS == ["Fold"]
    assert stubs.BlobCodec.decoded == decoded  # the exported files are shared, too
    files = [sorted(path.read_bytes() for path in (tmp_path / folder).iterdir()) for folder in ("out", "other")]
    assert [[data.partition(b"\n")[0] for data in written] for written in files] == [[b"ab0", b"ab1", b"ab2"]] * 2
    assert second["out"] == stubs.Blob(b"ab0", b"ab1", b"ab2")
    assert warnings_of(events) == []


def test_what_was_used_is_in_the_directory_from_then_on(machine: Callable[..., Engine], url: str, tmp_path: Path) -> None:
    compute(machine("first", url))
    assert compute(machine("second", url))["out"].items == (b"ab0", b"ab1", b"ab2")
    third = machine("second", url)
    assert compute(third)["out"].items == (b"ab0", b"ab1", b"ab2")
    assert objects_of(third).requests == []
    assert Store(tmp_path / "second").upkeep.verify().missing == ()


def test_store_holds_blobs_and_records_and_no_claims_after_a_run(machine: Callable[..., Engine], url: str) -> None:
    compute(machine("first", url))
    kinds = sorted(parsed.kind if (parsed := names.parse(name)) is not None else name for name in objects_in(url))
    assert kinds == ["blobs", "blobs", "nodegraph.json", "records", "records"]


def test_no_store_costs_nothing(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    threads = threading.active_count()
    engine = make_engine(cache_dir=tmp_path / "alone")
    compute(engine)
    assert type(engine.cache.store) is Store
    assert threading.active_count() == threads


@pytest.mark.parametrize("kind", ["records", "blobs"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data[:-1] + bytes([data[-1] ^ 1]),
        lambda data: data + b" ",
        lambda data: b"{}\n" + data,
    ],
    ids=["empty", "truncated", "flipped", "longer", "other"],
)
def test_damaged_objects_are_misses_and_are_replaced(
    machine: Callable[..., Engine], tmp_path: Path, events: list[Any], kind: str, damage: Callable[[bytes], bytes]
) -> None:
    url = address(tmp_path, "memory")
    compute(machine("first", url))
    before = objects_in(url)
    change(url, kind, damage)
    assert compute(machine("second", url))["out"].items == (b"ab0", b"ab1", b"ab2")
    assert len(warnings_of(events)) == 1
    assert "is missing, damaged, or not signed" in warnings_of(events)[0]
    after = {name: data for name, (data, _) in objects_in(url).items()}
    if kind == "blobs":  # that of `folded` was not needed
        assert any(after[name] == data for name, (data, _) in before.items() if name.endswith(".blob"))
    third = compute(machine("third", url))
    assert (third.ran, third["out"].items) == ((), (b"ab0", b"ab1", b"ab2"))


@pytest.mark.parametrize("kind", ["records", "blobs"])
def test_swapped_objects_are_misses(machine: Callable[..., Engine], url: str, kind: str, stubs: types.ModuleType) -> None:
    first = machine("first", url)
    compute(first)
    compute(first, blob_workflow("cd"))
    objects, found = Objects(url), objects_in(url)
    swapped = sorted(name for name in found if name.startswith(kind) and name.endswith((".json", ".blob")))
    for name, other in zip(swapped, swapped[1:] + swapped[:1], strict=True):
        objects.put(name, found[other][0])
    second = machine("second", url)
    assert compute(second)["out"].items == (b"ab0", b"ab1", b"ab2")
    assert compute(second, blob_workflow("cd"))["out"].items == (b"cd0", b"cd1", b"cd2")


def test_missing_blob_is_computed_again(machine: Callable[..., Engine], url: str) -> None:
    compute(machine("first", url))
    objects = Objects(url)
    objects.delete([name for name in objects_in(url) if name.startswith("blobs/")])
    assert compute(machine("second", url))["out"].items == (b"ab0", b"ab1", b"ab2")
    third = compute(machine("third", url))
    assert (third.ran, third["out"].items) == ((), (b"ab0", b"ab1", b"ab2"))


def test_damaged_file_in_the_directory_comes_from_the_store(machine: Callable[..., Engine], url: str, tmp_path: Path) -> None:
    compute(machine("first", url))
    compute(machine("second", url))["out"]
    third = machine("third", url)
    assert compute(third)["out"].items == (b"ab0", b"ab1", b"ab2")
    for path in (tmp_path / "third/blobs").rglob("*.blob"):
        path.chmod(0o644)
        path.write_bytes(b"damaged")
    assert compute(third)["out"].items == (b"ab0", b"ab1", b"ab2")


# --- trust


def test_signed_records_are_shared_by_those_who_have_the_key(
    machine: Callable[..., Engine], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NODEGRAPH_CACHE_REMOTE_KEY", KEY)
    compute(machine("first", url))
    assert compute(machine("second", url)).ran == ()
    monkeypatch.setenv("NODEGRAPH_CACHE_REMOTE_KEY", KEY + "!")
    assert compute(machine("third", url)).ran == ("folded", "made")
    monkeypatch.delenv("NODEGRAPH_CACHE_REMOTE_KEY")
    assert compute(machine("fourth", url)).ran == ("folded", "made")


@pytest.mark.parametrize("key", [None, b"another key of another team"])
def test_records_without_the_signature_are_refused(
    machine: Callable[..., Engine], url: str, monkeypatch: pytest.MonkeyPatch, events: list[Any], key: bytes | None
) -> None:
    """Someone without the key can write to the store, and puts a wrong result where signed ones are."""
    compute(machine("first", url))
    objects, wrong = Objects(url), Seal(key)
    own = Seal(KEY.encode())
    for name, (content, _) in objects_in(url).items():
        parsed = names.parse(name)
        if parsed is not None and parsed.kind == "records":
            record = json.loads(content.partition(b"\n")[2])
            record["node"] = "forged"
            forged = names.record(own.space, parsed.name)
            objects.put(forged, wrong.close(forged, json.dumps(record).encode()))
    monkeypatch.setenv("NODEGRAPH_CACHE_REMOTE_KEY", KEY)
    assert compute(machine("second", url)).ran == ("folded", "made")
    assert "not signed with your key" in warnings_of(events)[0]
    third = machine("third", url)
    assert compute(third).ran == ()
    assert {record.node for record in third.cache.entries()} <= {"folded", "made"}


def test_read_only_store_is_not_written(machine: Callable[..., Engine], url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compute(machine("first", url))
    before = objects_in(url)
    monkeypatch.setenv("NODEGRAPH_CACHE_REMOTE_ACCESS", "read")
    second = machine("second", url)
    assert compute(second).ran == ()
    assert compute(second, blob_workflow("new")).ran == ("folded", "made")
    assert objects_in(url) == before
    assert [request for request, _ in objects_of(second).requests if request in WRITES] == []


def rewrite(url: str, node: str, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the record that a node made, under a sound seal."""
    objects, seal = Objects(url), Seal(None)
    for name, (content, _) in objects_in(url).items():
        if name.startswith("records/"):
            document = json.loads(content.partition(b"\n")[2])
            if document["node"] == node:
                change(document)
                objects.put(name, seal.close(name, json.dumps(document).encode()))


def test_wrong_result_is_replaced_in_the_store(machine: Callable[..., Engine], url: str) -> None:
    """A record that was wrong from the start has a sound seal; computing it again finds it."""
    compute(machine("first", url))
    data = json.dumps([b"wrong".hex()]).encode()
    wrong = {"blob": f"{hashlib.sha256(data).hexdigest()}.blob", "size": len(data), "digest": "e" * 64}
    Objects(url).put(names.blob(wrong["blob"]), data)
    rewrite(url, "made", lambda document: document["outputs"]["output"].update(wrong))
    second = compute(machine("second", url), verify=1.0)
    assert second.differed == ("made",)
    assert second["out"].items == (b"ab0", b"ab1", b"ab2")
    third = compute(machine("third", url))
    assert (third.ran, third["out"].items) == ((), (b"ab0", b"ab1", b"ab2"))


def test_record_of_a_later_version_is_left_alone(machine: Callable[..., Engine], url: str, events: list[Any]) -> None:
    compute(machine("first", url))
    for node in ("folded", "made"):
        rewrite(url, node, lambda document: document.update(format=99))
    before = objects_in(url)
    assert compute(machine("second", url)).ran == ("folded", "made")
    assert {name: data for name, (data, _) in objects_in(url).items()} == {name: data for name, (data, _) in before.items()}
    assert warnings_of(events) == []


# --- a store that fails


def test_full_store_is_one_warning(machine: Callable[..., Engine], url: str, events: list[Any]) -> None:
    engine = machine("first", url)
    objects_of(engine).fault = refuse("put", "create", "upload")
    for text in ("ab", "cd", "ef"):
        assert compute(engine, blob_workflow(text))["out"].items[0] == text.encode() + b"0"
    (warning,) = warnings_of(events)
    assert "cannot be written: no space left in the bucket" in warning
    assert "nodegraph cache push" in warning


def test_store_that_fills_up_keeps_only_whole_results(machine: Callable[..., Engine], url: str, events: list[Any]) -> None:
    """Blobs can be written and records cannot, or the other way round."""
    engine = machine("first", url)
    objects_of(engine).fault = lambda request, name: refuse("upload")(request, name) if name.endswith(".blob") else None
    compute(engine)
    assert len(warnings_of(events)) == 1
    assert compute(machine("second", url))["out"].items == (b"ab0", b"ab1", b"ab2")


def test_store_that_is_away_is_one_warning_and_is_left_alone(machine: Callable[..., Engine], url: str, events: list[Any]) -> None:
    compute(machine("first", url))
    engine = machine("second", url)
    objects_of(engine).fault = refuse("get", "head", "download", *WRITES)
    for text in ("ab", "cd"):
        assert compute(engine, blob_workflow(text)).ran == ("folded", "made")
    (warning,) = warnings_of(events)
    assert "cannot be read: no space left" in warning
    assert len(objects_of(engine).requests) == 1


def test_folder_that_is_not_there_is_a_store_that_is_away(
    machine: Callable[..., Engine], tmp_path: Path, events: list[Any]
) -> None:
    assert compute(machine("first", f"file://{tmp_path}/unmounted")).ran == ("folded", "made")
    assert len(warnings_of(events)) == 1
    assert not (tmp_path / "unmounted").exists()


def test_store_that_goes_away_before_a_value_is_read(machine: Callable[..., Engine], url: str, events: list[Any]) -> None:
    compute(machine("first", url))
    engine = machine("second", url)
    objects_of(engine).fault = refuse("download")
    assert compute(engine)["out"].items == (b"ab0", b"ab1", b"ab2")
    assert len(warnings_of(events)) == 1


def test_requests_that_fail_once_are_tried_again(machine: Callable[..., Engine], url: str, events: list[Any]) -> None:
    engine, failed = machine("first", url), set()

    def fault(request: str, name: str) -> None:
        if request == "upload" and name not in failed:
            failed.add(name)
            raise ObjectsError("busy")

    objects_of(engine).fault = fault
    compute(engine)
    assert len(failed) == 2
    assert warnings_of(events) == []
    assert compute(machine("second", url)).ran == ()


def test_run_does_not_wait_for_a_slow_store(machine: Callable[..., Engine], url: str) -> None:
    engine, go = machine("first", url), threading.Event()

    def fault(request: str, name: str) -> None:
        if request == "upload":
            assert go.wait(60)

    objects_of(engine).fault = fault
    assert engine.run(blob_workflow()).ran == ("folded", "made")  # while nothing can be uploaded
    assert compute(machine("none", "none")).ran == ("folded", "made")
    left: list[int] = []
    threading.Timer(0.01, go.set).start()
    engine.finish_uploads(left.append)
    assert compute(machine("second", url)).ran == ()


# --- several machines at once


def test_one_computes_and_the_others_wait(machine: Callable[..., Engine], url: str, stubs: types.ModuleType) -> None:
    engines = [machine(f"machine {i}", url) for i in range(4)]
    results: list[Any] = []
    threads = [threading.Thread(target=lambda engine=engine: results.append(compute(engine))) for engine in engines]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result["out"].items for result in results] == [(b"ab0", b"ab1", b"ab2")] * 4
    assert stubs.CALLS == ["Fold"]


def test_plan_of_another_machine_is_true(machine: Callable[..., Engine], url: str) -> None:
    compute(machine("first", url))
    plan = machine("second", url).plan(blob_workflow())
    assert (plan.names("cached"), plan.names("run")) == (["made"], [])
    Objects(url).delete([name for name in objects_in(url) if name.endswith(".blob")])
    plan = machine("third", url).plan(blob_workflow())
    assert (plan.names("cached"), plan.names("run")) == (["folded"], ["made"])


def test_results_of_another_class_of_numbers_are_misses(machine: Callable[..., Engine], url: str) -> None:
    workflow = Workflow("w")
    workflow.output("out", workflow.add("Numeric", name="numeric"))
    assert compute(machine("first", url, dtype="float32"), workflow).ran == ("numeric",)
    assert compute(machine("second", url, dtype="bfloat16"), workflow).ran == ("numeric",)
    assert compute(machine("third", url, dtype="float32"), workflow).ran == ()


def test_few_requests_are_made(machine: Callable[..., Engine], url: str) -> None:
    first, second = machine("first", url), machine("second", url)
    compute(first)

    def requests(engine: Engine) -> dict[str, int]:
        return Counter(f"{request} {name.partition('/')[0]}" for request, name in objects_of(engine).requests)

    made = requests(first)
    assert made.pop("create nodegraph.json") in (1, 2)  # by one or two threads
    assert made == {
        "get records": 4,  # when it is planned, and after it was claimed
        "get claims": 2,
        "put leases": 1,
        "create claims": 2,
        "upload blobs": 2,
        "create records": 2,
        "delete claims": 2,
        "delete leases": 1,
    }
    compute(second)
    assert requests(second) == {"get records": 2, "download blobs": 1}


@pytest.mark.slow
def test_eight_processes_compute_a_key_once(tmp_path: Path) -> None:
    url = address(tmp_path, "file")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/slow_pack.py").write_text(NODE)
    command = [sys.executable, "-c", PROCESS, url]
    processes = [
        subprocess.Popen([*command, f"machine {i}"], cwd=tmp_path, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for i in range(8)
    ]
    for process in processes:
        wait_for(process, "ready")
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert [end(process).split()[-1] for process in processes] == ["AB"] * 8
    assert (tmp_path / "computed").read_text() == "computed\n"


@pytest.mark.slow
def test_killed_process_does_no_harm(tmp_path: Path) -> None:
    """One is killed while it computes. Another takes over after the lease is void: here after a second instead of thirty."""
    url = address(tmp_path, "file")
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins/slow_pack.py").write_text(NODE)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": tmp_path}
    command = [sys.executable, "-c", PROCESS, url]
    with subprocess.Popen([*command, "killed", "600"], **pipes) as killed:
        wait_for(killed, "ready")
        assert killed.stdin is not None
        killed.stdin.write("\n")
        killed.stdin.flush()
        wait_for(killed, "computing")
        kill(killed)
    other = subprocess.Popen([*command, "other", "0", "1"], **pipes)
    assert other.communicate("\n", timeout=300)[0].split() == ["ready", "computing", "AB"]


NODE = """
import time
from nodegraph import hookimpl, node
import os

@node("Slow")
def slow(text: str) -> str:
    print("computing", flush=True)
    with open("computed", "a") as file:
        file.write("computed\\n")
    time.sleep(float(os.environ["SECONDS"]))
    return text.upper()

@hookimpl
def register_nodes(register):
    register(slow)
"""

PROCESS = """
import os, sys
from nodegraph import Engine, Workflow
from nodegraph.cache.store.remote import claims, remote_store
os.environ["SECONDS"] = (sys.argv[3:] or ["0.5"])[0]
if sys.argv[4:]:
    remote_store.Timing = lambda: claims.Timing(expiry=float(sys.argv[4]))
engine = Engine(cache_dir=sys.argv[2], plugin_dirs=["plugins"], cache_remote=sys.argv[1])
workflow = Workflow("w")
workflow.output("out", workflow.add("Slow", text="ab"))
print("ready", flush=True)
sys.stdin.readline()
print(engine.run(workflow)["out"], flush=True)
engine.finish_uploads()
"""
