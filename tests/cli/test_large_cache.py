"""Commands for caches of many files: they show progress, read each record once, and can be interrupted."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nodegraph.cache.store import record_files
from nodegraph.cache.store.records import Record, StoredValue, record_bytes
from nodegraph.cache.store.safe_io import SafeFiles
from nodegraph.cache.store.store import Store
from nodegraph.cli import counter as counter_module
from nodegraph.cli.storage import cache as commands

COUNT = 100

Action = tuple[str, int, int | None]


@pytest.fixture
def large(cli, greeting) -> Path:
    """A cache directory with a run's two results and many more, which are not in its index."""
    greeting.rename(cli.folder / "workflow.yaml")
    assert cli("run", "workflow.yaml").exit_code == 0
    store = Store(cli.folder / "cache")
    for number in range(COUNT):
        key = hashlib.sha256(b"%d" % number).hexdigest()
        blob = store.put_bytes(b"%d" % number, ".json")
        value = StoredValue(blob.name[:64], blob.name, "json", blob.size)
        record = Record(key=key, type="T", workflow="w", node="n", created=1e9, seconds=1.0, outputs={"output": value})
        path = store.layout.record(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(record_bytes(record))
    return store.directory


@pytest.fixture
def count(monkeypatch) -> Callable[[Callable[[Action], None]], None]:
    """Passes what the commands show on a terminal to a function."""

    def pass_to(function: Callable[[Action], None]) -> None:
        @contextlib.contextmanager
        def counter() -> Iterator[Callable[[str, int, int | None], None]]:
            yield lambda *action: function(action)

        monkeypatch.setattr(commands, "counter", counter)

    return pass_to


@pytest.mark.parametrize("command", [("gc", "--size", "1"), ("info",), ("ls",), ("verify",)], ids=lambda words: words[0])
def test_records_are_read_once_with_progress_from_the_start(cli, large, count, monkeypatch, command):
    events: list[Action | Path] = []
    read = SafeFiles.read

    def noted(self: SafeFiles, path: Path) -> bytes | None:
        if path.parent.parent.name == "records":
            events.append(path)
        return read(self, path)

    monkeypatch.setattr(SafeFiles, "read", noted)
    monkeypatch.setattr(record_files, "MAX_RECORDS_IN_MEMORY", 10)  # as with many more results
    count(events.append)
    assert cli("cache", *command).exit_code == 0
    reads = Counter(event for event in events if isinstance(event, Path))
    assert len(reads) >= COUNT
    if command != ("verify",):  # which reads them to check them, then to find missing files
        assert set(reads.values()) == {1}
    assert not isinstance(events[0], Path)
    assert not any(isinstance(first, Path) and isinstance(second, Path) for first, second in itertools.pairwise(events))


@pytest.mark.parametrize(
    ("command", "action"),
    [
        (("gc", "--size", "1"), "read"),
        (("gc", "--size", "1"), "listed"),
        (("gc", "--size", "1"), "removed"),
        (("clear", "--yes"), "listed"),
        (("clear", "--yes"), "removed"),
        (("verify",), "checked"),
        (("info",), "read"),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0],
)
def test_ctrl_c_leaves_a_cache_that_works(cli, large, count, command, action):
    def interrupt(shown: Action) -> None:
        if shown[:2] == (action, COUNT // 2):
            signal.raise_signal(signal.SIGINT)

    count(interrupt)
    ran = cli("cache", *command)
    assert ran.exit_code == 130
    assert ran.stderr.strip() == "Interrupted"
    assert not list((large / "locks").glob("*"))
    count(lambda shown: None)
    assert cli("cache", "verify").exit_code == 0
    assert cli("run", "workflow.yaml").exit_code == 0
    assert cli("cache", "info", "--json").json["results"] >= 2
    assert cli("cache", "clear", "--yes").exit_code == 0
    assert cli("cache", "info", "--json").json["results"] == 0


def test_terminal_shows_what_is_read_and_then_removed(cli, large, monkeypatch):
    monkeypatch.setattr(counter_module, "is_terminal", lambda stream: True)
    monkeypatch.setattr(counter_module, "_COUNT_SECONDS", 0.0)
    shown = cli("cache", "gc", "--size", "1").stderr
    assert f"\rread {COUNT} files" in shown
    assert 0 < shown.index("read 1 files") < shown.index(f"removed {COUNT // 2} of ")
    assert shown.endswith("\r")


@pytest.mark.parametrize(
    ("answer", "message", "status"), [("n\n", "nothing was removed", 1), ("y\n", "", 0), ("", "Interrupted", 130)]
)
def test_answer_to_the_question_of_clear(cli, large, monkeypatch, answer, message, status):
    monkeypatch.setattr(commands, "is_terminal", lambda stream: True)
    ran = cli("cache", "clear", stdin=answer)
    assert ran.exit_code == status
    assert message in ran.stderr
    assert status == 130 or "Interrupted" not in ran.stderr
    assert (Store(large).upkeep.info().records == 0) == (status == 0)
