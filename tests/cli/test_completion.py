"""Completion of node types, params, inputs and targets, as a real shell asks for it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

WORKFLOW = """
nodegraph: 1
params:
  word: {default: hey, help: "one\\n\\e[31mword"}
  times: 2
nodes:
  word: {use: Text, value: $params.word}
  halves: {use: Split, text: $word, at: $params.times}
outputs:
  result: {from: $halves.left}
"""

BASH = """
eval "$(_NODEGRAPH_COMPLETE=bash_source "$NODEGRAPH")"
compopt() { printf 'compopt %s %s\\n' "$@"; }
COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1))
_nodegraph_completion "$NODEGRAPH"
printf '%s\\n' "${COMPREPLY[@]}"
"""


@pytest.fixture
def answer(cli):
    """What nodegraph prints for words, the last of which is not complete."""
    cli.write(WORKFLOW, "w.yaml")

    def answer(*words, shell="bash"):
        words = ("nodegraph", *words)
        env = {"_NODEGRAPH_COMPLETE": f"{shell}_complete", "COMP_WORDS": " ".join(words), "COMP_CWORD": str(len(words) - 1)}
        ran = cli(env=env)
        assert ran.stderr == ""
        return ran.stdout

    return answer


@pytest.fixture
def complete(answer):
    """The completions of the last word."""
    return lambda *words: [line.removeprefix("plain,") for line in answer(*words).splitlines() if line]


def test_node_types_and_registries_are_completed(complete):
    assert complete("nodes", "Spl") == ["Split", "SplitSigmas"]
    assert complete("widgets", "") == ["gear"]
    assert complete("samplers", "dpmpp_2m_c") == ["dpmpp_2m_cfg_pp"]


def test_settings_are_completed(complete):
    assert complete("run", "w.yaml", "--set", "") == ["word=", "times=", "word.", "halves."]
    assert complete("run", "w.yaml", "--set", "w") == ["word=", "word."]
    assert complete("check", "w.yaml", "--set", "halves.") == ["halves.text=", "halves.at="]
    assert complete("check", "w.yaml", "--set", "halves.a") == ["halves.at="]
    assert complete("check", "gone.yaml", "--set", "h") == []


def test_targets_and_nodes_are_completed(complete):
    assert complete("run", "w.yaml", "--set", "word", "=", "x", "--target", "h") == ["halves"]
    assert complete("explain", "w.yaml", "--target", "halves.") == ["halves.left", "halves.right"]
    assert complete("run", "w.yaml", "--target", "r") == ["result"]
    assert complete("run", "w.yaml", "--force", "w") == ["word"]


def test_options_of_plugins_are_completed(complete):
    assert complete("run", "w.yaml", "--allow") == ["--allow-pickles"]


def test_help_is_one_line_without_control_characters(answer):
    assert answer("run", "w.yaml", "--set", "word=", shell="zsh").splitlines() == ["plain", "word=", "one\\n\\e[31mword"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes(cli):
    program = Path(sys.executable).parent / "nodegraph"
    if not program.exists():
        pytest.skip("no nodegraph beside this Python")
    cli.write(WORKFLOW, "w.yaml")
    command = ["bash", "-c", BASH, "nodegraph", "nodegraph", "run", "w.yaml", "--set", "t"]
    env = {**os.environ, **cli.env, "NODEGRAPH": str(program)}
    ran = subprocess.run(command, cwd=cli.folder, env=env, capture_output=True, text=True, timeout=300, check=False)
    assert (ran.stdout, ran.stderr) == ("compopt -o nospace\ntimes=\n", "")
