"""`nodegraph run --verify-cache`: what it prints, its exit status, and the shares that it takes."""

from __future__ import annotations

import pytest

from tests.support.wrong_results import spoil


@pytest.fixture
def stored(cli, greeting):
    """The workflow, whose results are in the cache."""
    cli("run", greeting)
    return greeting


def test_right_results_are_verified(cli, stored, nodes_of):
    ran = cli("run", stored, "--verify-cache")
    assert (ran.exit_code, ran.stdout) == (0, "out/greeting-result.json\n")
    assert "word   verified in " in ran.stderr
    assert "twice  verified in " in ran.stderr
    assert "done in" in ran.stderr
    again = cli("run", stored, "--verify-cache", "--json")
    assert nodes_of(again) == {"word": "verified", "twice": "verified"}
    assert nodes_of(cli("run", stored, "--json")) == {"word": "pruned", "twice": "cached"}


def test_wrong_result_is_named_and_the_status_is_3(cli, stored):
    spoil(cli.folder / "cache", "twice", "nonsense", created=1.8e9)
    ran = cli("run", stored, "--verify-cache")
    assert (ran.exit_code, ran.stdout) == (3, "out/greeting-result.json\n")
    assert "twice  differs from the cache, computed in " in ran.stderr
    assert "note: the stored result of node 'twice' (Repeat) was wrong: 'output' was " in ran.stderr
    assert "It was made on 2027-01-15 at " in ran.stderr
    assert "and this kind of machine, under key " in ran.stderr
    assert ran.stderr.splitlines()[-1].startswith("[E221] wrong results were in the cache: 'twice'. This run computed")
    assert "heyhey" in (cli.folder / "out" / "greeting-result.json").read_text()
    assert cli("run", stored, "--verify-cache").exit_code == 0
    assert cli("cache", "verify").exit_code == 0


def test_json_says_what_was_wrong(cli, stored, nodes_of):
    record = spoil(cli.folder / "cache", "twice", "nonsense")
    ran = cli("run", stored, "--verify-cache", "--json", "--quiet")
    assert ran.exit_code == 3
    assert ran.json["status"] == "done"
    assert nodes_of(ran) == {"word": "verified", "twice": "differed"}
    wrong = ran.json["nodes"]["twice"]["wrong"]
    assert (wrong["key"], wrong["made_by"], wrong["same_machine"]) == (record.key, "twice", True)
    assert wrong["stored"].keys() == wrong["computed"].keys() == {"output"}
    assert "1 verified, 1 differed" in cli("runs", "ls").stdout


def test_environment_sets_the_share(cli, stored, nodes_of):
    ran = cli("run", stored, "--json", env={"NODEGRAPH_VERIFY": "1"})
    assert nodes_of(ran) == {"word": "verified", "twice": "verified"}
    ran = cli("run", stored, "--json", "--verify-cache", "0", env={"NODEGRAPH_VERIFY": "1"})
    assert nodes_of(ran) == {"word": "pruned", "twice": "cached"}


@pytest.mark.parametrize("words", [["--verify-cache"], ["--verify-cache", "1"], ["--verify-cache=1.0"]])
@pytest.mark.parametrize("before", [True, False])
def test_share_may_be_left_out_before_or_after_the_file(cli, stored, nodes_of, words, before):
    ran = cli("run", "--json", *words, stored) if before else cli("run", "--json", stored, *words)
    assert nodes_of(ran) == {"word": "verified", "twice": "verified"}


@pytest.mark.parametrize("share", ["2", "-1", "abc", "nan", "1e9", "0,5", "50%"])
@pytest.mark.parametrize("joined", [True, False])
def test_bad_share_is_one_line_with_the_name_of_the_option(cli, stored, share, joined):
    words = [f"--verify-cache={share}"] if joined else ["--verify-cache", share]
    ran = cli("run", stored, *words)
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert ran.stderr == (
        "[E401] --verify-cache cannot be used: expected the share of cached results to check, from 0 to 1, such as 0.01, "
        f"found '{share}'\n"
    )


def test_bad_share_in_the_environment_is_one_line_with_its_name(cli, stored):
    ran = cli("run", stored, env={"NODEGRAPH_VERIFY": "often"})
    assert ran.exit_code == 2
    assert ran.stderr.startswith("[E401] NODEGRAPH_VERIFY cannot be used: expected the share of cached results")
    assert len(ran.stderr.splitlines()) == 1


def test_verifying_without_the_cache_is_refused(cli, stored):
    ran = cli("run", stored, "--verify-cache", "--no-cache")
    assert ran.exit_code == 2
    assert "--verify-cache checks results in the cache, which --no-cache does not read" in ran.stderr
