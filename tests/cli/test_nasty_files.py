"""Malicious workflow files on the command line give one clear line, status 2 and no side effects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import pytest

from tests.support.cli import Cli

HEAD = "nodegraph: 1\nnodes: "
FILES: Final[Mapping[str, tuple[str | bytes, str]]] = {
    "5,000 brackets": (HEAD + "[" * 5_000 + "]" * 5_000, "bad.yaml:2:71 [E100] this is nested more than 64 levels deep"),
    "5,000 levels of indentation": ("".join(f"{' ' * i}a:\n" for i in range(5_000)), "bad.yaml:65:65 [E100] this is nested more"),
    "5,000 dashes": ("- " * 5_000, "nested more than 64 levels deep"),
    "an alias bomb": (
        "a0: &a0 x\n" + "\n".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 60)),
        "with its aliases this holds more than 1,000,000 values",
    ),
    "an alias of itself": ("nodegraph: 1\nnodes: &n {a: *n}\n", "is inside the value that it repeats"),
    "bytes": (bytes(range(256)), "bad.yaml is not UTF-8 text (byte 128)"),
    "zeros": (b"\0" * 1000, "the character U+0000 is not allowed in a workflow file"),
    "half a character": (b"name: \xe2\x82", "is not UTF-8 text"),
    "a surrogate": (HEAD + '{a: {use: "\\ud800"}}\n', "[E100]"),
    "a Python object": (HEAD + "!!python/object/apply:os.system [touch hacked]\n", "the tag '!!python/object/apply:os.system'"),
    "a tag for everything": ("%TAG ! tag:yaml.org,2002:python/\n---\n" + HEAD + "!name:os.system {}\n", "Remove '%TAG'"),
    "a million letters": (HEAD + "{a: {use: " + "k" * 1_000_000 + "}}\noutputs: {o: $a}\n", "there is no node type 'kkk"),
    "words for a terminal": (
        HEAD + '{a: {use: "\\e]0;mine\\a\\e[31m\\n\\u202e"}}\noutputs: {o: $a}\n',
        r"'\x1b]0;mine\x07\x1b[31m\n\u202e'",
    ),
    "numbers for names": (
        HEAD + "{1: {use: Text}, 1.5: {use: Text}, ~: {use: Text}}\noutputs: {o: $1}\n",
        "'1' in 'nodes' is not a name",
    ),
    "lists for names": (HEAD + "{[a]: {use: Text}}\n", "a key in 'nodes' is not a name"),
    "a number too long": (HEAD + "{a: {use: Text, value: " + "9" * 100_000 + "}}\n", "a number of 100,000 digits is too long"),
    "an output above": (HEAD + '{a: {use: Text}}\noutputs: {o: {from: $a, save: "../../x"}}\n', "leads out of the output folder"),
    "an output elsewhere": (HEAD + "{a: {use: Text}}\noutputs: {o: {from: $a, save: /tmp/x}}\n", "leads out of the output folder"),
    "an output that is a device": (
        HEAD + "{a: {use: Text}}\noutputs: {o: {from: $a, save: NUL}}\n",
        "not a file name on every platform",
    ),
}


@pytest.mark.parametrize("command", ["check", "run", "show", "explain"])
@pytest.mark.parametrize(("content", "message"), FILES.values(), ids=FILES)
def test_malicious_file_is_refused(cli: Cli, command: str, content: str | bytes, message: str) -> None:
    (cli.folder / "bad.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    before = {path.name for path in cli.folder.iterdir()}
    ran = cli(command, "bad.yaml")
    assert ran.exit_code == 2, ran.stderr
    assert message in ran.stderr
    assert ran.stdout == ""
    assert len(ran.stderr) < 10_000
    assert "Traceback" not in ran.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", ran.stderr)
    assert {path.name for path in cli.folder.iterdir()} - before <= {"cache"}


@pytest.mark.parametrize("name", ["5,000 brackets", "bytes", "an alias bomb"])
def test_malicious_file_is_refused_in_a_new_process(cli: Cli, name: str) -> None:
    content, message = FILES[name]
    (cli.folder / "bad.yaml").write_bytes(content.encode() if isinstance(content, str) else content)
    ran = cli.other_process("run", "bad.yaml")
    assert (ran.exit_code, ran.stdout) == (2, "")
    assert message in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
