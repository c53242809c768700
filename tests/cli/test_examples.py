"""`nodegraph examples`, and examples that run by their name."""

from __future__ import annotations

import pytest

PLUGIN = """
from pathlib import Path
from nodegraph import hookimpl


@hookimpl
def register_examples(register):
    register("hello", Path(__file__).parent / "flows" / "hello.yaml")
"""

HELLO = """
nodegraph: 1
description: Say what a file says
nodes: {read: {use: Read, path: texts/hello.txt}}
outputs: {said: {from: $read}}
"""


@pytest.fixture
def shipped(cli):
    """A plugin with an example that reads a file beside it."""
    folder = cli.folder / "mine"
    (folder / "flows" / "texts").mkdir(parents=True)
    (folder / "greeting.py").write_text(PLUGIN)
    (folder / "flows" / "hello.yaml").write_text(HELLO)
    (folder / "flows" / "texts" / "hello.txt").write_text("hi")
    return folder


def test_examples_are_listed_with_their_descriptions(cli, shipped):
    listed = cli("examples", "--plugin-dir", "mine").stdout.splitlines()
    assert "hello             Say what a file says" in listed
    assert any(line.startswith("txt2img ") for line in listed)
    (hello,) = cli("examples", "hello", "--plugin-dir", "mine", "--json").json
    assert hello == {"name": "hello", "description": "Say what a file says", "path": str(shipped / "flows" / "hello.yaml")}


def test_example_runs_by_its_name(cli, shipped):
    ran = cli("run", "hello", "--plugin-dir", "mine")
    assert ran.exit_code == 0, ran.stderr
    assert (cli.folder / ran.stdout.strip()).read_text() == '"hi"\n'
    assert cli("check", "hello", "--plugin-dir", "mine").stdout == "hello: 1 node, 1 output, no mistakes\n"


def test_existing_path_comes_before_an_example(cli, shipped, greeting):
    greeting.rename(cli.folder / "hello")
    assert "2 nodes" in cli("check", "hello", "--plugin-dir", "mine").stdout


def test_folder_hides_no_example(cli, shipped):
    (cli.folder / "hello").mkdir()
    (cli.folder / "other").mkdir()
    assert "1 node" in cli("check", "hello", "--plugin-dir", "mine").stdout
    assert cli("run", "hello", "--plugin-dir", "mine").exit_code == 0
    ran = cli("run", "other", "--plugin-dir", "mine")
    assert (ran.exit_code, ran.stderr.startswith("[E100] other cannot be read: ")) == (2, True)


def test_misspelt_example_gets_a_suggestion(cli):
    ran = cli("run", "txt2imgs")
    assert (ran.exit_code, ran.stderr) == (
        2,
        "[E100] there is no workflow file or example txt2imgs. Did you mean 'txt2img'? 'nodegraph examples' lists the examples.\n",
    )
    unlike = "[E100] there is no workflow file or example nothing. Check the path. 'nodegraph examples' lists the examples.\n"
    assert cli("run", "nothing").stderr == unlike
    assert "there is no workflow file txt2img.yaml. Check the path." in cli("run", "txt2img.yaml").stderr


def test_copy_takes_the_files_that_an_example_reads(cli, shipped):
    ran = cli("examples", "hello", "--copy", "here", "--plugin-dir", "mine")
    assert [line.replace("\\", "/") for line in ran.stdout.splitlines()] == ["wrote here/hello.yaml", "wrote here/texts/hello.txt"]
    assert cli("run", "here/hello.yaml").exit_code == 0


def test_copy_overwrites_nothing(cli, shipped):
    (cli.folder / "here").mkdir()
    (cli.folder / "here" / "hello.yaml").write_text("mine")
    ran = cli("examples", "hello", "--copy", "here", "--plugin-dir", "mine")
    assert (ran.exit_code, "hello.yaml exists already and stays as it is" in ran.stderr) == (2, True)
    assert [path.name for path in (cli.folder / "here").iterdir()] == ["hello.yaml"]


def test_copied_examples_of_the_pack_are_whole(cli):
    assert cli("examples", "--copy", "here").exit_code == 0
    for name in ("inpaint", "img2img", "txt2img", "compare_samplers"):
        assert cli("check", f"here/{name}.yaml").exit_code == 0


def test_unknown_example_is_an_error(cli):
    ran = cli("examples", "hallo")
    assert ran.exit_code == 2
    assert "There is no example 'hallo'." in ran.stderr
