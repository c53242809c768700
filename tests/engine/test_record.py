"""The record of a run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, Workflow
from nodegraph.run.record import read_runs


def drawn() -> Workflow:
    """A workflow with random seeds in a param and in a node, nodes that use them, and a model."""
    workflow = Workflow("drawn")
    seed = workflow.param("seed", "random", type="seed")
    one = workflow.add("Draw", name="one", seed=seed)
    other = workflow.add("Draw", name="other", seed="random")
    workflow.add("Numeric", name="numeric", value=1.5)
    workflow.output("total", workflow.add("Plus", name="total", a=one, b=other))
    workflow.output("where", workflow.add("Numeric", name="where", value=2.5))
    return workflow


def record_of(engine: Engine, run: str) -> dict[str, Any]:
    assert engine.cache_dir is not None
    record: dict[str, Any] = json.loads((engine.cache_dir / "runs" / f"{run}.json").read_text())
    return record


def test_record_is_complete(engine: Engine, tmp_path: Path) -> None:
    began = time.time()
    result = engine.run(drawn(), out=tmp_path / "out")
    record = record_of(engine, result.run)
    assert (record["run"], record["workflow"], record["status"], record["error"]) == (result.run, "drawn", "done", None)
    assert began <= record["started"] <= time.time()
    assert record["seconds"] == result.seconds > 0
    assert set(record["numerics"]) == {"device", "dtype", "name"}
    assert set(record["versions"]) == {"nodegraph", "python", "stub_pack"}
    assert 1 << 20 < record["peak_memory"] < 1 << 40  # bytes
    assert record["platform"]
    assert record["outputs"] == {name: [str(path.absolute()) for path in paths] for name, paths in result.outputs.items()}
    assert {name: node["status"] for name, node in record["nodes"].items()} == {
        "one": "ran",
        "other": "ran",
        "numeric": "pruned",
        "total": "ran",
        "where": "ran",
    }
    for name, node in record["nodes"].items():
        assert node["type"] == result.graph.nodes[name].spec.name
        assert node["key"] == result.nodes[name].key
        assert node["seconds"] == result.nodes[name].seconds


def test_recorded_seeds_reproduce_the_run(engine: Engine) -> None:
    first = engine.run(drawn())
    record = record_of(engine, first.run)
    assert record["params"] == {"seed": engine.cache.load(str(first.nodes["one"].content), "output")}
    again = engine.run(Workflow.parse(record["document"]))
    assert again.ran == ()
    assert again["total"] == first["total"]


def test_record_has_the_digest_of_each_value(make_engine: Callable[..., Engine], tmp_path: Path) -> None:
    (tmp_path / "weights").write_text("abc")
    workflow = Workflow("w")
    loaded = workflow.add("Load", name="loaded", path=str(tmp_path / "weights"))
    workflow.output("size", loaded.size)
    workflow.output("made", workflow.add("Make", name="made", text="x"))
    engines = make_engine(), make_engine()
    records = [record_of(engine, engine.run(workflow).run)["nodes"] for engine in engines]
    assert records[0]["made"]["digests"].keys() == {"output"}
    assert records[0]["loaded"]["digests"].keys() == {"model", "size"}
    assert [node["status"] for node in records[1].values()] == ["cached", "cached"]
    assert all(records[1][name]["digests"] == records[0][name]["digests"] for name in ("made", "loaded"))
    stored = {record.node: record.outputs for record in make_engine().cache.entries()}
    assert records[0]["made"]["digests"]["output"] == stored["made"]["output"].digest


def test_record_of_a_failed_run_has_each_reason(engine: Engine) -> None:
    workflow = Workflow("w")
    for how in ("value", "key"):
        workflow.output(how, workflow.add("Fails", name=how, how=how))
    result = engine.run(workflow, raise_errors=False, keep_going=True)
    record = record_of(engine, result.run)
    assert record["status"] == "failed"
    assert record["error"] == str(result.error)
    assert "no pixels" in record["nodes"]["value"]["error"]
    assert "surprise" in record["nodes"]["key"]["error"]
    assert record["nodes"]["key"]["content"] is None


def test_notices_are_recorded(engine: Engine) -> None:
    workflow = Workflow("w")
    workflow.output("n", workflow.add("NotPure", name="not_pure"))
    engine.run(workflow)
    record = record_of(engine, engine.run(workflow, force=["not_pure"]).run)
    assert "it is not deterministic" in record["nodes"]["not_pure"]["notices"][0]


@pytest.mark.parametrize("threads", ["1", "7"])
def test_thread_count_is_part_of_the_machine(
    make_engine: Callable[..., Engine], monkeypatch: pytest.MonkeyPatch, threads: str
) -> None:
    workflow = Workflow("w")
    workflow.output("n", workflow.add("NotPure", name="not_pure"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    make_engine().run(workflow)
    monkeypatch.setenv("OMP_NUM_THREADS", threads)
    result = make_engine().run(workflow, force=["not_pure"])
    assert [notice.message[:23] for notice in result.notices] == (["it is not deterministic"] if threads == "1" else [])


@pytest.mark.parametrize("text", ["", "[]", "{", '{"format": 1}', "\0"])
def test_unreadable_record_is_skipped(engine: Engine, text: str) -> None:
    assert engine.cache_dir is not None
    result = engine.run(drawn())
    (engine.cache_dir / "runs" / "99990101-000000-000000-aaaa.json").write_text(text)
    assert [record["run"] for record in read_runs(engine.cache_dir / "runs")] == [result.run]
    engine.explain(engine.plan(drawn()))


def test_unwritable_record_does_not_fail_the_run(engine: Engine) -> None:
    assert engine.cache_dir is not None
    engine.cache_dir.mkdir(exist_ok=True)
    (engine.cache_dir / "runs").write_text("a file")
    assert engine.run(drawn()).status == "done"
