"""The examples in the README and the docs work: Python runs, YAML passes the check, commands succeed."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from nodegraph import Workflow
from nodegraph.cli import main
from tests.support.markdown import anchors, blocks, links

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all pages: they show the same pictures."""
    return tmp_path_factory.mktemp("cache")


SLOW = ("comfyui", "guidance", "schedules", "samplers-tutorial", "workflows", "plugins")
RUN = [
    ROOT / "README.md",
    *(
        ROOT / "docs" / f"{name}.md"
        for name in ("workflows", "python", "comfyui", "plugins", "schedules", "guidance", "samplers-tutorial", "training")
    ),
]


@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=[pytest.mark.slow] if page.stem in SLOW else []) for page in RUN],
    ids=[page.name for page in RUN],
)
def test_examples_of_a_page_work(page, tmp_path, monkeypatch, cache):
    shutil.copytree(ROOT / "workflows", tmp_path / "workflows")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NODEGRAPH_CACHE_DIR", str(cache))
    monkeypatch.delenv("NODEGRAPH_PLUGIN_DIR", raising=False)
    names: dict[str, object] = {}
    for block in blocks(page):
        if block.saved:
            path = tmp_path / block.saved
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            exec(compile(block.text, str(page), "exec"), names)
        elif block.language == "yaml" and "~/models/" in block.text:
            Workflow.parse(block.text)  # `check` would look for a model of the reader
        elif block.language == "yaml":
            (tmp_path / "workflows" / "shown.yaml").write_text(block.text, encoding="utf-8")
            run("check", "workflows/shown.yaml")
        elif block.language == "console":
            for line in block.text.splitlines():
                words = shlex.split(line.removeprefix("$ ").partition(" > ")[0], comments=True)
                if words[:2] == ["nodegraph", "watch"]:
                    continue  # it goes on until it is stopped
                if words[0] == "nodegraph" and not any(word.endswith("some-sd15.safetensors") for word in words):
                    run(*words[1:])
                elif words[:3] == ["python", "-m", "pytest"]:
                    passes(*words[3:])


def run(*args: str) -> None:
    result = CliRunner().invoke(main, args, prog_name="nodegraph")
    assert result.exit_code == 0, f"nodegraph {shlex.join(args)}\n{result.output}"


def passes(*args: str) -> None:
    """Tests that a page has written, in a separate process, because test modules of two pages can share a name."""
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q", *args], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, f"python -m pytest {shlex.join(args)}\n{ran.stdout}{ran.stderr}"


def test_readme_shows_the_main_workflow():
    shown = next(block.text for block in blocks(ROOT / "README.md") if block.language == "yaml")
    shipped = (ROOT / "workflows/inpaint.yaml").read_text(encoding="utf-8")
    assert Workflow.parse(shown).dump() == Workflow.parse(shipped).dump()


def test_readme_shows_a_real_error_message(tmp_path, monkeypatch):
    shown = next(block.text for block in blocks(ROOT / "README.md") if "[E104]" in block.text)
    shutil.copytree(ROOT / "workflows", tmp_path / "workflows")
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "workflows" / "inpaint.yaml"
    path.write_text(path.read_text(encoding="utf-8").replace("positive: $positive", "postive: $positive"), encoding="utf-8")
    result = CliRunner().invoke(main, ["check", "workflows/inpaint.yaml"], prog_name="nodegraph")
    assert result.exit_code == 2
    assert shown.strip() in result.stderr.splitlines()


def test_comfyui_page_shows_real_suggestions():
    shown = next(block.text for block in blocks(ROOT / "docs/comfyui.md") if block.language == "text")
    command, message = shown.splitlines()
    result = CliRunner().invoke(main, shlex.split(command)[2:], prog_name="nodegraph")
    assert result.exit_code == 2
    assert message in result.stderr.splitlines()


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_have_targets(page):
    missing = []
    for link in (link for link in links(page) if "://" not in link):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            missing.append(link)
    assert missing == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "pyproject.toml", ROOT / ".ci/run"], ids=lambda p: p.name)
def test_lines_are_plain_text(page):
    """No local path, no tab, and no space at the end of a line."""
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        assert line == line.rstrip(), f"{page.name}:{number}: space at the end"
        assert not re.search(r"(?<![\w.])/(home|Users|root|opt|work)/", line), f"{page.name}:{number}: a path of a machine"
