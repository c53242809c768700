"""Help texts are complete, their examples run, and plugins can add options."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from nodegraph.cli import main
from nodegraph.plugins import discovery

OPTIONS = """
import click
from nodegraph import hookimpl

def cheer(ctx, param, value):
    if value:
        click.echo("hooray", err=True)

@hookimpl
def register_options(register):
    register(click.Option(["--cheer"], is_flag=True, expose_value=False, callback=cheer, help="Cheer."), "run", "check")
"""


def commands(group: click.Group = main, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Every command and group, with the words that call it."""
    yield words, group
    with click.Context(group, help_option_names=["-h", "--help"]) as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from commands(command, (*words, name))
            else:
                yield (*words, name), command


COMMANDS = {" ".join(words): (words, command) for words, command in commands()}


@pytest.mark.parametrize(("words", "command"), COMMANDS.values(), ids=COMMANDS)
def test_every_command_option_and_status_is_explained(words, command):
    assert re.match(r"[A-Z].*\.", command.help)
    assert re.search(r"Examples?:\n(  \$ nodegraph .+\n){1,3}\nExit status: (0|2) .+\.$", command.epilog)
    with click.Context(command, help_option_names=["-h", "--help"]) as context:  # click keeps the option that it makes first
        for parameter in command.get_params(context):
            if isinstance(parameter, click.Option):
                assert re.match(r"[A-Z].*\.(  \[.*\])?$", parameter.help), parameter.name
            else:
                assert parameter.make_metavar(context).strip("[].") in command.help or parameter.name.upper() in command.help


@pytest.mark.parametrize("words", [words for words, _ in COMMANDS.values()], ids=COMMANDS)
def test_help_fits_a_terminal(cli, words):
    ran = cli(*words, "--help", env={"COLUMNS": "80"})
    assert ran.exit_code == 0
    assert max(map(len, ran.stdout.splitlines())) <= 80


# examples of these need files or a store of a user, and `watch` goes on until it is stopped
LEFT_OUT = {"models", "convert", "watch", "import", "export", "pull", "push"}
ENGINE = {name: command for name, (words, command) in COMMANDS.items() if LEFT_OUT.isdisjoint(words)}


@pytest.mark.parametrize("command", ENGINE.values(), ids=ENGINE)
def test_help_examples_run(cli, command):
    cli.write("nodegraph: 1\nparams: {seed: 1}\nnodes: {w: {use: Draw, seed: $params.seed}}\noutputs: {w: $w}\n", "workflow.yaml")
    (cli.folder / "my_plugins").mkdir()
    assert cli("run", "workflow.yaml").exit_code == 0
    for line in re.findall(r"^  \$ nodegraph (.+)$", command.epilog, re.MULTILINE):
        ran = cli(*shlex.split(line.partition(" > ")[0]))
        assert ran.exit_code == 0, (line, ran.stderr)


def test_plugin_adds_options(cli, greeting):
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "cheering.py").write_text(OPTIONS)
    assert "  --cheer " in cli("run", "--plugin-dir", "mine", "--help").stdout
    for command in ("run", "check"):
        ran = cli(command, greeting, "--plugin-dir=mine", "--cheer")
        assert ran.exit_code == 0, ran.stderr
        assert ran.stderr.startswith("hooray\n")
        assert "hooray" not in cli(command, greeting, "--plugin-dir", "mine").stderr
    assert "No such option '--cheer'" in cli("explain", greeting, "--plugin-dir", "mine", "--cheer").stderr
    assert "No such option '--cheer'" in cli("run", greeting, "--cheer").stderr


def test_plugin_option_cannot_replace_another(cli, greeting):
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "taking.py").write_text(OPTIONS.replace("--cheer", "--out"))
    ran = cli("run", greeting, "--plugin-dir", "mine", "--out", "there")
    assert ran.exit_code == 0, ran.stderr
    assert "hooray" not in ran.stderr
    assert (cli.folder / "there").is_dir()


def test_plugin_with_failing_options_is_named(cli, greeting):
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "failing.py").write_text(
        "from nodegraph import hookimpl\n@hookimpl\ndef register_options(register):\n    raise KeyError('cheer')\n"
    )
    ran = cli("run", greeting, "--plugin-dir", "mine")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stderr.count("warning: plugin 'failing' (") == 1
    assert "cannot add its options: 'cheer'" in ran.stderr


def test_unknown_option_error_names_broken_plugins(cli, greeting):
    (cli.folder / "mine").mkdir()
    (cli.folder / "mine" / "broken.py").write_text("import nothing_there\n")
    ran = cli("run", greeting, "--plugin-dir", "mine", "--cheer")
    assert ran.exit_code == 2
    assert "plugin 'broken'" in ran.stderr
    ran = cli("cheer", env={"NODEGRAPH_PLUGIN_DIR": str(cli.folder / "mine")})
    assert ran.exit_code == 2
    assert "plugin 'broken'" in ran.stderr


@pytest.mark.parametrize("words", [["--help"], ["nodes"], ["samplers"], ["schema"], ["check"], ["show"]], ids=" ".join)
def test_commands_that_make_no_keys_do_not_read_the_code_of_installed_plugins(cli, greeting, monkeypatch, words):
    def read(*args, **options):
        raise AssertionError("the code is read")

    for function in ("_code_of", "_release"):
        monkeypatch.setattr(discovery, function, read)
    ran = cli(*words, *([greeting] if words[0] in ("check", "show") else []))
    assert (ran.exit_code, "the code is read" in ran.stderr) == (0, False), ran.stderr
    assert "the code is read" in cli("run", greeting).stderr
