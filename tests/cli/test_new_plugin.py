"""`nodegraph new-plugin`: the new plugin works and passes its tests; a failed call leaves nothing behind."""

from __future__ import annotations

import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from nodegraph_nodes.commands.new_plugin import KINDS, node_type


@pytest.mark.slow
def test_new_plugins_pass_their_tests(cli):
    """Each has its own settings of pytest, so each is a call of it; they share a process, which imports torch once."""
    names = [f"brand_new_{kind}" for kind in KINDS]
    for kind, name in zip(KINDS, names, strict=True):
        assert cli("new-plugin", kind, name).exit_code == 0
    code = f"import pytest\nfor name in {names}:\n    print(name, pytest.main(['-q', '-W', 'error', name]) == 0, flush=True)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False)
    assert [name for name in names if f"\n{name} True\n" not in ran.stdout] == [], ran.stdout + ran.stderr
    assert ran.stdout.count(" passed in ") == len(names)


@pytest.mark.parametrize("kind", KINDS)
def test_printed_commands_work(cli, kind):
    output = cli("new-plugin", kind, "brand_new", "--out", "my plugins/brand new").stdout
    commands = [shlex.split(line, comments=True) for line in output.split("It works as it is:")[1].splitlines()]
    ours = [words[1:] for words in commands if words[:1] == ["nodegraph"]]
    assert len(ours) == (2 if kind in ("sampler", "schedule") else 1)
    for words in ours:
        ran = cli(*words, *(["--set", "sampled.steps=2"] if words[0] == "run" else []))
        assert ran.exit_code == 0, ran.stderr
        assert "brand new" in " ".join(words)


@pytest.mark.parametrize("kind", KINDS)
def test_new_plugin_is_a_package_with_an_entry_point(cli, kind):
    assert cli("new-plugin", kind, "Brand_New_").exit_code == 0
    folder = cli.folder / "Brand_New_"
    files = sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    assert files == ["Brand_New_.py", "README.md", "pyproject.toml", "tests/test_Brand_New_.py"]
    project = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["name"] == "nodegraph-Brand-New"
    assert project["project"]["entry-points"]["nodegraph"] == {"Brand_New_": "Brand_New_"}
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["only-include"] == ["Brand_New_.py"]
    for name in files:
        assert "{{" not in (folder / name).read_text(encoding="utf-8")


def test_new_plugins_are_listed_without_torch(cli):
    """Neither writing a plugin nor listing it imports torch."""
    names = [f"brand_new_{kind}" for kind in KINDS]
    calls = [["new-plugin", kind, name] for kind, name in zip(KINDS, names, strict=True)]
    calls += [["plugins", "--plugin-dir", name] for name in names]
    code = (
        "import sys\nfrom nodegraph.cli import main\n"
        f"for words in {calls!r}:\n"
        "    try:\n        main(words)\n    except SystemExit as end:\n        assert not end.code\n"
        "print(*sorted({'torch', 'numpy', 'PIL'} & set(sys.modules)), file=sys.stderr)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.split() == []
    assert [name for name in names if f"\n{name} " not in ran.stdout] == []


@pytest.mark.parametrize(
    ("kind", "name", "message"),
    [
        ("sampler", "my-sampler", "found 'my-sampler'. Call it 'my_sampler'"),
        ("sampler", "3d", "found '3d'. Call it 'my_3d'"),
        ("node", "class", "found 'class'. Call it 'my_class'"),
        ("node", "_hidden", "found '_hidden'. Call it 'hidden'"),
        ("schedule", "größe", "letters, digits and underscores"),
        ("schedule", "", "Call it 'my'"),
        ("sampler", "../up", "Call it 'up'"),
        ("schedule", "random", "There is a Python module 'random' already"),
        ("guidance", "torch", "There is a Python module 'torch' already"),
        ("sampler", "euler", "There is a sampler 'euler' already, from the plugin 'nodegraph_nodes'"),
        ("schedule", "karras", "There is a schedule 'karras' already"),
        ("sampler", "DDIM", "There is a sampler 'DDIM' already"),
        ("node", "load_image", "There is a node 'LoadImage' already"),
        ("node", "stub_pack", "There is a plugin 'stub_pack' already"),
        ("upscaler", "mine", "'upscaler' is not one of"),
    ],
)
def test_bad_name_gets_a_suggestion(cli, kind, name, message):
    ran = cli("new-plugin", kind, name)
    assert ran.exit_code == 2
    assert message in ran.stderr
    assert list(cli.folder.iterdir()) == []


def test_existing_folder_is_kept(cli):
    (cli.folder / "brand_new").mkdir()
    (cli.folder / "kept").write_text("kept")
    for out in ("brand_new", "kept"):
        ran = cli("new-plugin", "node", "brand_new", "--out", out)
        assert ran.exit_code == 2
        assert f"{out} exists already and stays as it is" in ran.stderr
    assert (cli.folder / "kept").read_text() == "kept"
    assert sorted(path.name for path in cli.folder.rglob("*")) == ["brand_new", "kept"]


def test_failed_write_leaves_nothing(cli, monkeypatch):
    (cli.folder / "file").write_text("")
    assert "cannot be written: Not a directory" in cli("new-plugin", "node", "brand_new", "--out", "file/below").stderr
    write_text = Path.write_text

    def full(path, text, **options):
        if path.name == "README.md":
            raise OSError(28, "No space left on device")
        return write_text(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    ran = cli("new-plugin", "node", "brand_new")
    assert ran.exit_code == 2
    assert "brand_new cannot be written: No space left on device" in ran.stderr
    assert [path.name for path in cli.folder.iterdir()] == ["file"]


def test_node_type_is_the_name_in_camel_case():
    assert [node_type(name) for name in ("blur", "soft_light", "toHSV_2")] == ["Blur", "SoftLight", "ToHSV2"]
