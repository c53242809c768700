"""Sweeps that have to be as a lock file says, but for the swept values."""

from __future__ import annotations

import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nodegraph import Engine, LockError, SweepError, lock, sweep

TEXT = """
nodegraph: 1
params: {times: 1, seed: random, note: words.txt}
nodes:
  read: {use: Contents, path: $params.note}
  again: {use: Repeat, text: $read, times: $params.times}
  drawn: {use: Draw, seed: $params.seed}
outputs:
  again: {from: $again}
  drawn: {from: $drawn}
"""


@pytest.fixture
def file(engine: Engine, tmp_path: Path) -> Path:
    """A workflow that is locked. It reads a file and draws a seed."""
    (tmp_path / "words.txt").write_text("ab")
    path = tmp_path / "say.yaml"
    path.write_text(TEXT)
    lock(path, engine=engine)
    return path


def test_seeds_are_those_of_the_lock_file(engine: Engine, file: Path) -> None:
    drawn = engine.run(file, locked=True)["drawn"]
    result = sweep(file, {"times": [1, 2]}, engine=engine, locked=True)
    assert [(point["again"], point["drawn"]) for point in result] == [("ab", drawn), ("abab", drawn)]
    assert list(result.seeds) == ["seed"]
    swept = sweep(file, {"seed": [1, 2]}, engine=engine, locked=file.with_name("say.lock.yaml"))
    assert swept.seeds == {}
    assert swept[0]["drawn"] != swept[1]["drawn"]


@pytest.mark.parametrize("change", ["value", "file", "node"])
def test_whatever_is_not_swept_has_to_match(engine: Engine, file: Path, stubs: types.ModuleType, change: str) -> None:
    params: dict[str, Any] = {}
    if change == "value":
        params["times"] = 3
    elif change == "file":
        file.with_name("words.txt").write_text("other")
    else:
        file.write_text(TEXT.replace("Repeat", "Remark").replace(", times: $params.times", ""))
    stubs.CALLS.clear()
    with pytest.raises(LockError, match=r"E403.* does not match, so nothing was run"):
        sweep(file, {"seed": [1, 2]}, engine=engine, params=params, locked=True, out=file.with_name("out"))
    assert stubs.CALLS == []
    assert not file.with_name("out").exists()


def test_swept_file_is_no_change(make_engine: Callable[..., Engine], file: Path) -> None:
    file.with_name("more.txt").write_text("c")
    result = sweep(
        file, {"note": [str(file.with_name("more.txt")), str(file.with_name("words.txt"))]}, engine=make_engine(), locked=True
    )
    assert [point["again"] for point in result] == ["c", "ab"]


def test_file_that_changes_during_the_sweep_ends_it(engine: Engine, file: Path) -> None:
    def change(point: Any) -> None:
        file.with_name("words.txt").write_text("other")

    with pytest.raises(
        SweepError, match=r"(?s)point 2 \(times=2\) failed: .*so the point was not run:.*file 'words.txt' was"
    ) as caught:
        sweep(file, {"times": [1, 2, 3]}, engine=engine, locked=True, on_point=change)
    assert isinstance(caught.value.__cause__, LockError)
