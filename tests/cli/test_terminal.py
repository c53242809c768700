"""What reaches the terminal: no control characters of other people, no tracebacks, whatever stdout and the environment are."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodegraph import terminal
from tests.support.slow import slow_after

ROOT = Path(__file__).parents[2]
NASTY = "\x1b[2J\x07\x9b31m\u202egnp\u2066"
WRITERS = ("click.echo", "click.secho", "print", "sys.stdout.write", "sys.stderr.write")
RAW = ("\x1b", "\x07", "\x9b", "\u202e", "\u2066")

SHOUT = '''
"""A node whose text has control characters."""
from nodegraph import hookimpl, node, Run


@node("Shout")
def shout(text: str, fail: bool = False, *, run: Run) -> str:
    """Shout \x1b[31mloudly."""
    run.notice(f"noticed {text}")
    if fail:
        raise ValueError(f"cannot shout {text}")
    return text

@hookimpl
def register_nodes(register):
    register(shout)
'''


@pytest.fixture
def shout(cli) -> Path:
    folder = cli.folder / "shouting"
    folder.mkdir()
    (folder / "shout.py").write_text(SHOUT, encoding="utf-8")
    cli.env["NODEGRAPH_PLUGIN_DIR"] = str(folder)
    text = NASTY.encode("unicode_escape").decode()
    return cli.write(
        f'nodegraph: 1\ndescription: "about {text}"\nparams: {{text: "{text}"}}\n'
        'nodes: {loud: {use: Shout, text: $params.text}}\noutputs: {loud: {from: $loud, save: "{text}.json"}}\n'
    )


@pytest.mark.parametrize(
    "words",
    slow_after(
        5,
        [
            ("run", "FILE"),
            ("run", "FILE", "--set", "loud.fail=true"),
            ("run", "FILE", "--set", f"loud.{NASTY}=1"),
            ("run", f"{NASTY}.yaml"),
            ("check", "FILE"),
            ("show", "FILE"),
            ("explain", "FILE"),
            ("explain", "FILE", "--set", f"text={NASTY}x"),
            ("nodes", "Shout"),
            ("nodes", NASTY),
            ("nodes",),
            ("plugins",),
            ("cache", "ls"),
            ("runs", "ls"),
            ("runs", "show", "last"),
            ("cache", "info", "--cache-dir", NASTY),
            (NASTY,),
            ("run", "FILE", f"--{NASTY}"),
        ],
    ),
    ids=lambda words: " ".join(words).encode("unicode_escape").decode(),
)
def test_no_control_character_reaches_the_terminal(cli, shout, words):
    nasty = shout.rename(cli.folder / f"work{NASTY}.yaml")
    assert cli("run", nasty).exit_code == 0  # otherwise nothing is shown that could have control characters
    ran = cli(*(str(nasty) if word == "FILE" else word for word in words))
    assert "unexpected" not in ran.stderr
    assert [character for character in RAW if character in ran.stdout + ran.stderr] == []


def test_only_one_module_writes_to_the_terminal():
    """The progress display of rich and its tables escape what they show."""
    writers = set()
    for folder in ("nodegraph", "nodes"):
        for path in (ROOT / folder).rglob("*.py"):
            if "templates" in path.parts:
                continue
            text = path.read_text(encoding="utf-8")
            if not any(writer in text for writer in WRITERS):
                continue
            for node in ast.walk(ast.parse(text)):
                if isinstance(node, ast.Call) and ast.unparse(node.func) in WRITERS:
                    writers.add(path.relative_to(ROOT).as_posix())
    programs = ("nodes/nodegraph_diffusion/recipes/", "nodes/nodegraph_diffusion/testing/")  # run with python -m
    one_word = "nodegraph/__main__.py"  # "Interrupted", which may come before anything is imported
    assert {path for path in writers if not path.startswith(programs)} == {"nodegraph/terminal.py", one_word}


@given(st.text())
@settings(max_examples=100, deadline=None)
def test_escaped_text_has_nothing_that_a_terminal_obeys(text):
    shown = terminal.one_line(text)
    assert all(ord(c) >= 32 and not 0x7F <= ord(c) < 0xA0 and not 0xD800 <= ord(c) < 0xE000 for c in shown)
    assert terminal.escaped(shown) == shown


def test_very_long_text_is_cut(capsys):
    terminal.echo("x" * 10_000 + "\nshort")
    first, second = capsys.readouterr().out.splitlines()
    assert first == "x" * terminal.MAX_LINE + "... (10,000 characters)"
    assert second == "short"


# --- other processes


@pytest.fixture
def started(cli, greeting):
    """Runs the command line in another process."""

    def start(*words, code="", **options):
        command = f"import sys\n{code}\nfrom nodegraph.cli import main\nmain({list(words)!r}, prog_name='nodegraph')"
        env = {**os.environ, **cli.env, **options.pop("env", {})}
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        env = {name: value for name, value in env.items() if value is not None}
        return subprocess.run([sys.executable, "-c", command], cwd=cli.folder, env=env, timeout=300, check=False, **options)

    return start


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("words", [("run", "greeting.yaml"), ("nodes",), ("--help",)], ids=" ".join)
def test_full_stdout_is_one_message(started, words):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        ran = started(*words, stdout=full)
    assert ran.returncode == 1
    assert b"Traceback" not in ran.stderr
    assert b"No space left on device" in ran.stderr


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="file descriptors of POSIX")
@pytest.mark.parametrize("closed", [(1,), (2,), (0, 1, 2)], ids=str)
def test_closed_streams(cli, started, greeting, closed):
    def close():
        for descriptor in closed:
            os.close(descriptor)

    ran = started("run", greeting.name, preexec_fn=close)
    assert ran.returncode == 0
    assert b"Traceback" not in ran.stderr
    assert (cli.folder / "out").is_dir()
    assert cli("cache", "verify").exit_code == 0


def test_ascii_terminal(started, cli):
    file = cli.write(
        'nodegraph: 1\ndescription: "Zürich → Köln"\nnodes: {w: {use: Text, value: "grün 猫"}}\noutputs: {w: $w}\n', "green.yaml"
    )
    env = {"PYTHONIOENCODING": "ascii:strict", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    for words in (("run", "green.yaml"), ("show", "green.yaml"), ("nodes",), ("cache", "ls")):
        ran = started(*words, env=env)
        assert ran.returncode == 0, ran.stderr
        assert b"Traceback" not in ran.stderr
    assert file.exists()


NO_PASSWD = """
import pwd
def missing(*args): raise KeyError("no entry")
pwd.getpwuid = pwd.getpwnam = missing
"""


@pytest.mark.skipif(os.name != "posix", reason="the passwd file of POSIX")
def test_no_home_folder_is_needed_with_a_cache_directory(started, greeting, cli):
    nothing = {"HOME": None, "USER": None, "LOGNAME": None, "XDG_CACHE_HOME": None, "XDG_CONFIG_HOME": None}
    for words in (("run", greeting.name), ("cache", "info"), ("check", greeting.name)):
        ran = started(*words, code=NO_PASSWD, env=nothing)
        assert ran.returncode == 0, ran.stderr
    ran = started("run", greeting.name, code=NO_PASSWD, env={**nothing, "NODEGRAPH_CACHE_DIR": None})
    assert ran.returncode == 2
    assert b"NODEGRAPH_CACHE_DIR" in ran.stderr
    assert not (cli.folder / "~").exists()
