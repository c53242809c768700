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
compopt() { printf compopt; printf ' %s' "$@"; echo; }
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


def test_params_and_outputs_of_workflows_of_the_same_file_are_completed(complete, cli):
    inner = "{params: {text: x}, nodes: {r: {use: Text, value: $params.text}}, outputs: {loud: {from: $r}}}"
    cli.write(f"nodegraph: 1\nnodes: {{one: {{use: '#in'}}}}\nworkflows:\n  in: {inner}\n", "composed.yaml")
    assert complete("check", "composed.yaml", "--set", "one.") == ["one.text="]
    assert complete("explain", "composed.yaml", "--target", "one.") == ["one.loud"]


def test_targets_and_nodes_are_completed(complete):
    assert complete("run", "w.yaml", "--set", "word", "=", "x", "--target", "h") == ["halves"]
    assert complete("explain", "w.yaml", "--target", "halves.") == ["halves.left", "halves.right"]
    assert complete("run", "w.yaml", "--target", "r") == ["result"]
    assert complete("run", "w.yaml", "--force", "w") == ["word"]


def test_examples_are_completed_beside_files(complete, cli):
    assert complete("run", "txt") == ["file,txt", "txt2img"]
    assert complete("check", "txt2img.y") == ["file,txt2img.y"]
    assert "inpaint" in complete("show", "")
    assert complete("examples", "txt2img", "in") == ["inpaint"]


def test_params_and_targets_of_examples_are_completed(complete):
    assert complete("run", "txt2img", "--set", "pro") == ["prompt="]
    assert complete("run", "txt2img", "--set", "sampled.sa") == ["sampled.sampler="]
    assert complete("run", "txt2img", "--target", "sa") == ["sampled"]
    assert complete("run", "txt3img", "--set", "") == []


def test_file_comes_before_an_example(complete, cli):
    cli.write(WORKFLOW, "txt2img")
    assert complete("run", "txt2img", "--set", "t") == ["times="]


def test_options_of_plugins_are_completed(complete):
    assert complete("run", "w.yaml", "--allow") == ["--allow-pickles"]


def test_help_is_one_line_without_control_characters(answer):
    assert answer("run", "w.yaml", "--set", "word=", shell="zsh").splitlines() == ["plain", "word=", "one\\n\\e[31mword"]


@pytest.fixture
def bash(cli):
    """What bash offers for words, the last of which is not complete, after the options of its completion that were set."""
    program = Path(sys.executable).parent / "nodegraph"
    if shutil.which("bash") is None or not program.exists():
        pytest.skip("no bash here, or no nodegraph beside this Python")
    env = {**os.environ, **cli.env, "NODEGRAPH": str(program)}

    def bash(*words):
        command = ["bash", "-c", BASH, "nodegraph", "nodegraph", *words]
        ran = subprocess.run(command, cwd=cli.folder, env=env, capture_output=True, text=True, timeout=300, check=False)
        assert ran.stderr == ""
        return ran.stdout.splitlines()

    return bash


def test_bash_completes(bash, cli):
    cli.write(WORKFLOW, "w.yaml")
    assert bash("run", "w.yaml", "--set", "t") == ["compopt -o nospace", "times="]


def test_bash_lists_files_beside_examples(bash, cli):
    cli.write(WORKFLOW, "txt *.yaml")
    assert bash("run", "txt") == ["compopt -o default -o filenames", "txt *.yaml", "txt2img"]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_scripts_of_other_shells_are_accepted_by_them(shell, cli):
    """They are those of click, except that zsh, too, writes no space after `seed=`."""
    script = cli(env={"_NODEGRAPH_COMPLETE": f"{shell}_source"}).stdout
    assert ("unfinished -U -S ''" in script) == (shell == "zsh")
    assert f"_NODEGRAPH_COMPLETE={shell}_complete" in script
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here")
    subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=300)
