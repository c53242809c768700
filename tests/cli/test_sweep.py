"""`nodegraph sweep`."""

from __future__ import annotations

import csv
import json
import random
import re
import signal
import time
from pathlib import Path

import pytest

from tests.support.cli import Cli

PAIRS = """
nodegraph: 1
params: {word: hey, times: 2}
nodes:
  word: {use: Text, value: $params.word}
  twice: {use: Repeat, text: $word, times: $params.times}
outputs: {result: {from: $twice, save: "{word}"}}
sweep: {over: {word: "a,b", times: [1, 3]}}
"""

SLOW = """
nodegraph: 1
params: {word: x}
nodes:
  base: {use: Slow, text: base, steps: 4, pause: 0.05}
  slow: {use: Slow, text: $params.word, steps: 4, pause: 0.05}
  both: {use: Noted, one: $base, other: $slow}
outputs: {result: {from: $both, save: "{word}"}}
"""


def test_section_of_the_file_says_what_to_try(cli: Cli) -> None:
    ran = cli("sweep", cli.write(PAIRS))
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout.splitlines() == ["out/0001-a.json", "out/0002-a.json", "out/0003-b.json", "out/0004-b.json"]
    assert json.loads((cli.folder / "out/0004-b.json").read_text()) == "bbb"
    lines = ran.stderr.splitlines()
    assert len(lines) == 4
    assert re.fullmatch(r"1 of 4  word=a, times=1  done in \d+\.\d\d s, \d+ s left", lines[0])
    assert re.fullmatch(r"4 of 4  word=b, times=3  done in \d+\.\d\d s", lines[3])
    again = cli("sweep", cli.folder / "greeting.yaml")
    assert again.stdout == ran.stdout
    assert [line.partition("  was done before")[1] for line in again.stderr.splitlines()] == ["  was done before"] * 4


def test_over_takes_the_place_of_the_section(cli: Cli) -> None:
    file = cli.write(PAIRS)
    ran = cli("sweep", file, "--over", "times=0..2", "--set", "word=yo", "-q", "--out", "o")
    assert ran.stdout.splitlines() == ["o/0001-yo.json", "o/0002-yo.json", "o/0003-yo.json"]
    assert ran.stderr == ""
    with (cli.folder / "o/points.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert [(row["times"], row["status"], row["result"]) for row in rows][2] == ("2", "done", "0003-yo.json")
    zipped = cli("sweep", file, "--over", "word=x,y", "--over", "times=[1, 2]", "--zip", "--out", "z", "--json")
    assert [point["params"] for point in zipped.json["points"]] == [{"word": "x", "times": 1}, {"word": "y", "times": 2}]
    assert zipped.json["points"][1]["outputs"] == {"result": ["z/0002-y.json"]}


def test_file_of_a_point_holds_the_workflow_of_that_point(cli: Cli) -> None:
    file = cli.write(PAIRS.replace("twice, save", "blob, save").replace("outputs:", "  blob: {use: Make, text: $twice}\noutputs:"))
    ran = cli("sweep", file, "--out", "o")
    assert ran.exit_code == 0, ran.stderr
    assert "ignored" not in ran.stderr
    records = [json.loads(path.read_text()) for path in sorted((cli.folder / "cache/runs").glob("*.json"))]
    assert [record["params"] for record in records] == [
        {"word": word, "times": times} for word, times in (("a", 1), ("a", 3), ("b", 1), ("b", 3))
    ]
    assert all("sweep" not in record["document"] for record in records)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--over", "wrod=a,b"), "[E120] --over wrod: the workflow has no such param or node input. Did you mean 'word'?"),
        (("--over", "word="), "[E121] --over word: the list of values is empty."),
        (("--over", "times=1,x"), "[E110] --over times, 'times' of node 'twice': expected a whole number, found 'x'."),
        (("--over", "times=1,77"), "[E111] --over times, 'times' of node 'twice': expected a value from 0 to 9, found 77."),
        (("--over", "times=1..1000000000"), "[E121] --over times has 1,000,000,000 values, and a sweep may have 100,000 points."),
        (("--over", "word=a", "--over", "word=b"), "[E121] --over word: this name is given twice."),
    ],
)
def test_mistakes(cli: Cli, args: tuple[str, ...], message: str) -> None:
    ran = cli("sweep", cli.write(PAIRS), *args)
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert not (cli.folder / "out").exists()


def test_workflow_without_a_sweep_needs_over(cli: Cli, greeting: Path) -> None:
    ran = cli("sweep", greeting)
    assert ran.exit_code == 2
    assert "there is nothing to sweep over. Give values: --over seed=1..8, or a section 'sweep' in the file." in ran.stderr


def test_batch_says_that_it_cannot(cli: Cli) -> None:
    ran = cli("sweep", cli.write(PAIRS), "--batch", "4")
    assert ran.exit_code == 0
    assert ran.stderr.startswith("note: --batch: the points run one by one.")


def test_sheet_of_values_that_are_no_pictures_is_a_note(cli: Cli) -> None:
    ran = cli("sweep", cli.write(PAIRS), "--sheet")
    assert ran.exit_code == 0
    assert "note: --sheet: output 'result': 0001-a.json cannot be shown on a sheet. Expected a picture" in ran.stderr


def test_failed_point_is_in_the_table(cli: Cli) -> None:
    file = cli.write(
        "nodegraph: 1\nparams: {n: 1}\n"
        "nodes:\n  good: {use: Text}\n  bad: {use: Fail, text: oh}\n"
        "  chosen: {use: Switch, on: $params.n, cases: {1: $good, 2: $bad, 3: $good}}\n"
        "outputs: {result: {from: $chosen}}\n"
    )
    ran = cli("sweep", file, "--over", "n=1..3", "--keep-going")
    assert ran.exit_code == 1
    assert ran.stdout.splitlines() == ["out/0001-greeting-result.json", "out/0003-greeting-result.json"]
    assert "[E231] point 2 (n=2) failed:" in ran.stderr.splitlines()[-1]
    rows = json.loads((cli.folder / "out/points.json").read_text())["points"]
    assert [row["status"] for row in rows] == ["done", "failed", "done"]
    assert "no good: oh" in rows[1]["error"]


PLUGIN = """
import os
from pathlib import Path
from nodegraph import hookimpl, node

@node("Noted")
def noted(one: str, other: str) -> str:
    with open(os.environ["NOTES"], "a") as file:
        file.write(other + "\\n")
    return one + other

@hookimpl
def register_nodes(register):
    register(noted)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("cache", "kills"), [((), 5), (("--no-cache",), 20)], ids=["cache", "no cache"])
def test_sweep_that_is_killed_again_and_again_repeats_no_point(cli: Cli, cache: tuple[str, ...], kills: int) -> None:
    """Killed at random moments. Only the point that is running when it is killed may run twice."""
    (cli.folder / "plugins").mkdir()
    (cli.folder / "plugins/noting.py").write_text(PLUGIN)
    notes = cli.folder / "notes"
    cli.env["NOTES"] = str(notes)
    words = [f"w{i}" for i in range(60)]
    args = ("sweep", cli.write(SLOW, "slow.yaml"), "--over", f"word={','.join(words)}", "--plugin-dir", "plugins", *cache)
    chance = random.Random(15)
    for _ in range(kills):
        process = cli.process(*args)
        journal = cli.folder / "out/points.part.jsonl"
        before = len(journal.read_bytes().splitlines()) if journal.exists() else 0
        while process.poll() is None and not (journal.exists() and len(journal.read_bytes().splitlines()) > before):
            time.sleep(0.01)  # until it does something
        time.sleep(chance.uniform(0, 0.5))
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert not (cli.folder / "out/points.json").exists()  # it was always killed before its end
    ran = cli.other_process(*args)
    assert ran.exit_code == 0, ran.stderr
    rows = json.loads((cli.folder / "out/points.json").read_text())["points"]
    assert [(row["point"], row["params"]["word"], row["status"]) for row in rows] == [
        (i, word, "done") for i, word in enumerate(words, start=1)
    ]
    assert sorted(path.name for path in (cli.folder / "out").glob("*.json") if path.name[0] == "0") == [
        f"{i:04d}-{word}.json" for i, word in enumerate(words, start=1)
    ]
    assert not (cli.folder / "out/points.part.jsonl").exists()
    assert not list((cli.folder / "out").glob(".*"))
    noted = notes.read_text().splitlines()
    assert sorted(set(noted)) == sorted(word.upper() for word in words)
    assert len(noted) - len(words) <= kills
    for i, word in enumerate(words, start=1):
        assert json.loads((cli.folder / f"out/{i:04d}-{word}.json").read_text()) == f"BASE{word.upper()}"
