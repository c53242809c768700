"""Bad input gives one clear message with the next step, the right exit status, no traceback and no partial output."""

from __future__ import annotations

import importlib.metadata

import pytest

HEAD = "nodegraph: 1\n"


def workflow(nodes: str, outputs: str = "{o: {from: $a}}") -> str:
    return f"{HEAD}nodes:\n{nodes}\noutputs: {outputs}\n"


FILES = {
    "not YAML": ("nodegraph: [1\n", "bad.yaml:"),
    "empty": ("", "bad.yaml"),
    "a list": ("- 1\n", "bad.yaml"),
    "no version": ("nodes: {a: {use: Text}}\noutputs: {o: {from: $a}}\n", "nodegraph"),
    "unknown section": (HEAD + "ndoes: {a: {use: Text}}\noutputs: {o: {from: $a}}\n", "nodes"),
    "unknown node type": (workflow("  a: {use: Txet}"), "Did you mean 'Text'?"),
    "unknown input": (workflow("  a: {use: Text, valeu: x}"), "Did you mean 'value'?"),
    "missing input": (workflow("  a: {use: Repeat}"), "'text'"),
    "wrong type": (workflow("  a: {use: Text}\n  b: {use: Repeat, text: $a, times: many}"), "'times'"),
    "out of range": (workflow("  a: {use: Text}\n  b: {use: Repeat, text: $a, times: 10}"), "9"),
    "link to nothing": (workflow("  a: {use: Repeat, text: $b}"), "'b'"),
    "unknown port": (workflow("  s: {use: Split, text: x}\n  a: {use: Repeat, text: $s.lfet}"), "left"),
    "port left out": (workflow("  s: {use: Split, text: x}\n  a: {use: Repeat, text: $s}"), "left"),
    "mismatch": (workflow("  s: {use: Draw, seed: 1}\n  a: {use: Repeat, text: $s}"), "Repeat"),
    "unknown param": (workflow("  a: {use: Text, value: $params.word}"), "'word'"),
    "duplicate key": (workflow("  a: {use: Text}\n  a: {use: Text}"), "twice"),
    "a circle": (workflow("  a: {use: Repeat, text: $b}\n  b: {use: Repeat, text: $a}"), "feed each other"),
    "unknown choice": (workflow("  a: {use: Shape, widget: geer}"), "Did you mean 'gear'?"),
    "missing file": (workflow("  a: {use: Read, path: nowhere.txt}"), "nowhere.txt"),
    "unknown output node": (workflow("  a: {use: Text}", "{o: {from: $b}}"), "'b'"),
}


def assert_refused(cli, ran, *parts, status=2):
    assert ran.exit_code == status, ran.stderr
    for part in parts:
        assert part in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "unexpected" not in ran.stderr
    assert ran.stdout == ""
    assert not (cli.folder / "out").exists()


@pytest.mark.parametrize("command", ["check", "run", "show"])
@pytest.mark.parametrize(("text", "message"), FILES.values(), ids=FILES)
def test_wrong_file_is_refused(cli, command, text, message):
    assert_refused(cli, cli(command, cli.write(text, "bad.yaml")), message)


def test_all_problems_are_reported_with_locations(cli):
    path = cli.write(workflow("  a: {use: Txet}\n  b: {use: Repeat, txet: x}"), "bad.yaml")
    ran = cli("check", path.name)
    lines = ran.stderr.splitlines()
    assert len(lines) >= 3
    assert lines[0].startswith("bad.yaml:3:")
    assert all(line.startswith("bad.yaml:4:") for line in lines[1:])
    assert all("[E" in line for line in lines)


@pytest.mark.parametrize("command", ["check", "run", "show"])
def test_missing_file_is_an_error(cli, command):
    assert_refused(cli, cli(command, "absent.yaml"), "absent.yaml")


def test_picture_is_not_a_workflow(cli):
    path = cli.folder / "picture.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\xff\xff\xff")
    assert_refused(cli, cli("run", path), "picture.png")


def test_folder_is_not_a_workflow(cli):
    assert_refused(cli, cli("run", "."), ".")


@pytest.mark.parametrize("setting", ["seed", "=3", " =3"])
def test_malformed_set_is_an_error(cli, greeting, setting):
    assert_refused(cli, cli("run", greeting, "--set", setting), "expected name=value")


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("wrod=x", "Did you mean 'word'?"),
        ("twice.tmies=3", "times"),
        ("gone.text=3", "gone.text"),
        ("twice.times=x", "times"),
    ],
)
def test_set_of_an_unknown_name_is_an_error(cli, greeting, setting, message):
    assert_refused(cli, cli("run", greeting, "--set", setting), message)


@pytest.mark.parametrize("option", ["--target", "--force"])
def test_unknown_node_is_an_error(cli, greeting, option):
    assert_refused(cli, cli("run", greeting, option, "twcie"), "twcie")


def test_unknown_command_is_an_error(cli):
    assert_refused(cli, cli("chek"), "Did you mean 'check'?")


def test_unknown_option_is_an_error(cli, greeting):
    assert_refused(cli, cli("run", greeting, "--outt", "x"), "--out")


@pytest.mark.parametrize("listing", ["nodes", "widgets"])
def test_unknown_name_in_a_listing_is_an_error(cli, listing):
    assert_refused(cli, cli(listing, "Txet" if listing == "nodes" else "geer"), "Did you mean")


def test_unwritable_output_folder_is_an_error(cli, greeting):
    (cli.folder / "taken").write_text("a file")
    ran = cli("run", greeting, "--out", "taken")
    assert ran.exit_code in (1, 2)
    assert "taken" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "unexpected" not in ran.stderr
    assert (cli.folder / "taken").read_text() == "a file"


def test_unwritable_cache_only_disables_the_cache(cli, greeting):
    (cli.folder / "taken").write_text("a file")
    ran = cli("run", greeting, "--cache-dir", "taken")
    assert ran.exit_code == 0, ran.stderr
    assert "taken" in ran.stderr


def test_missing_plugin_folder_is_an_error(cli, greeting):
    assert_refused(cli, cli("run", greeting, "--plugin-dir", "nowhere"), "nowhere")


def test_broken_plugin_is_named_and_the_rest_works(cli, greeting):
    folder = cli.folder / "plugins"
    folder.mkdir()
    (folder / "broken.py").write_text("import module_that_is_not_there\n")
    ran = cli("run", greeting, "--plugin-dir", folder)
    assert ran.exit_code == 0, ran.stderr
    assert "broken" in ran.stderr
    assert "module_that_is_not_there" in ran.stderr
    listed = cli("plugins", "--plugin-dir", folder)
    assert listed.exit_code == 0
    assert "module_that_is_not_there" in listed.stderr


@pytest.mark.parametrize("words", [["run"], ["check"], ["show"], ["explain"]], ids=" ".join)
def test_installed_plugin_that_is_broken_stops_no_command_that_needs_nothing_of_it(cli, greeting, monkeypatch, words):
    site = cli.folder / "site"
    information = site / "broken_pack-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: broken-pack\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text("[nodegraph]\nbroken = broken_pack\n")
    (site / "broken_pack.py").write_text("raise RuntimeError('it is broken')\n")
    monkeypatch.syspath_prepend(str(site))
    points = [*importlib.metadata.entry_points(group="nodegraph"), *importlib.metadata.Distribution.at(information).entry_points]
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: points)
    ran = cli(*words, greeting)
    assert ran.exit_code == 0, ran.stderr
    assert "plugin 'broken_pack' (broken-pack 1.0) cannot be loaded: RuntimeError: it is broken" in ran.stderr
    assert "pip uninstall broken-pack" in ran.stderr


def test_misspelt_hook_is_refused(cli, greeting):
    folder = cli.folder / "plugins"
    folder.mkdir()
    (folder / "typo.py").write_text("from nodegraph import hookimpl\n\n@hookimpl\ndef register_noodles(register):\n    pass\n")
    assert_refused(cli, cli("run", greeting, "--plugin-dir", folder), "register_noodles", "Did you mean")


def test_two_plugins_cannot_claim_one_name(cli, greeting):
    folder = cli.folder / "plugins"
    folder.mkdir()
    (folder / "twin.py").write_text(
        "from nodegraph import hookimpl, node\n\n@node('Text')\ndef text() -> str:\n    return ''\n\n"
        "@hookimpl\ndef register_nodes(register):\n    register(text)\n"
    )
    ran = cli("run", greeting, "--plugin-dir", folder)
    assert_refused(cli, ran, "'stub_pack'", "'twin'", "'Text'")
    assert ran.stderr.count("[E301]") == 1  # one error, without a warning before it


def test_preview_decoder_needs_previews(cli, greeting, monkeypatch):
    assert_refused(cli, cli("run", greeting, "--preview-decoder", "taesd.safetensors"), "--preview DIR")
    monkeypatch.setenv("NODEGRAPH_PREVIEW_DECODER", "taesd.safetensors")
    assert cli("run", greeting).exit_code == 0  # the environment sets it for runs with previews


def test_internal_error_is_one_line(cli, greeting, monkeypatch):
    def broken(*args):
        raise RuntimeError("the impossible")

    monkeypatch.setattr("nodegraph.graph.load.load_workflow", broken)
    ran = cli("run", greeting)
    assert ran.exit_code == 1
    assert "RuntimeError: the impossible" in ran.stderr
    assert "report" in ran.stderr
    assert "Traceback" not in ran.stderr
    assert "Traceback" in cli("run", greeting, "-v").stderr
