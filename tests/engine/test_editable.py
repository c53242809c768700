"""An editable plugin across processes: only edited code is a miss."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

PLUGIN = """
from nodegraph import hookimpl, node
from some_pack.deep.helper import added

@node("Add")
def add(text: str) -> str:
    return added(text)

@node("Lower")
def lower(text: str) -> str:
    return text.lower()

@hookimpl
def register_nodes(register):
    register(add)
    register(lower)
"""

RUN = """
import json
from nodegraph import Engine, Workflow
engine = Engine(cache_dir="cache")
workflow = Workflow("w")
workflow.output("out", workflow.add("Lower", name="lower", text=workflow.add("Add", name="add", text="hey")))
result = engine.run(workflow)
print(json.dumps([result.ran, result["out"]]))
"""


@pytest.fixture
def pack(tmp_path: Path) -> Path:
    """A plugin that is installed from its folder: as pip leaves it, with its files where they are edited."""
    pack = tmp_path / "site" / "some_pack"
    (pack / "deep").mkdir(parents=True)
    (pack / "__init__.py").write_text("")
    (pack / "plugin.py").write_text(PLUGIN)
    (pack / "deep" / "__init__.py").write_text("")
    (pack / "deep" / "helper.py").write_text("def added(text):\n    return text + ' 1'\n")
    info = tmp_path / "site" / "some_pack-1.4.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some-pack\nVersion: 1.4\n")
    (info / "entry_points.txt").write_text("[nodegraph]\nnodes = some_pack.plugin\n")
    (info / "direct_url.json").write_text(json.dumps({"url": pack.as_uri(), "dir_info": {"editable": True}}))
    return pack


@pytest.fixture
def run(pack: Path) -> Callable[[], Any]:
    """Runs a workflow in a separate process; returns the nodes that ran and the result."""

    def run() -> Any:
        path = os.pathsep.join([str(pack.parent), os.environ.get("PYTHONPATH", "")])
        environment = {**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        command = [sys.executable, "-c", RUN]
        folder = pack.parents[1]
        ran = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    return run


@pytest.mark.slow
def test_edited_helper_with_equal_times_is_a_miss(run: Callable[[], Any], pack: Path) -> None:
    assert run() == [["add", "lower"], "hey 1"]
    assert run() == [[], "hey 1"]
    helper = pack / "deep" / "helper.py"
    before = helper.stat()
    helper.write_text(helper.read_text().replace("1", "2"))
    os.utime(helper, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert run() == [["add", "lower"], "hey 2"]
    helper.write_text(helper.read_text().replace("2", "1"))
    assert run() == [[], "hey 1"]


@pytest.mark.slow
def test_plugin_that_was_edited_while_it_was_imported_is_not_kept(run: Callable[[], Any], pack: Path) -> None:
    helper, once = pack / "deep" / "helper.py", pack.parent / "once"
    once.touch()
    edit = """
from pathlib import Path
helper, once = Path(__file__).parent / "deep" / "helper.py", Path(__file__).parents[1] / "once"
if once.exists():
    once.unlink()
    helper.write_text(helper.read_text().replace("1", "2"))
"""
    (pack / "plugin.py").write_text(PLUGIN + edit)
    assert run() == [["add", "lower"], "hey 1"]  # the code that was imported
    assert "2" in helper.read_text()
    assert run() == [["add", "lower"], "hey 2"]
    assert run() == [[], "hey 2"]


@pytest.mark.slow
def test_touched_plugin_is_a_hit(run: Callable[[], Any], pack: Path) -> None:
    run()
    for file in pack.rglob("*.py"):
        os.utime(file, (1, 1))
    (pack / "old.pyc").write_text("bytecode")
    assert run() == [[], "hey 1"]
    for name in ("table.json", "prompt.md"):  # what a helper may read
        (pack / name).write_text("{}")
        assert run()[0] == ["add", "lower"]
