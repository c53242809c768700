"""`nodegraph stubs`: type checkers accept the examples, and reject a wrong input, output, link, literal or node type."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nodegraph.plugins.manager import load_plugins
from nodegraph.workflow.editors.stubs import changed_files, stub_files
from nodegraph.workflow.workflow import Workflow

EXAMPLES = Path(__file__).parent.parent / "data" / "stubs"
STUB = Path("nodegraph/workflow/workflow.pyi")

PLUGIN = """
from typing import Annotated, Any, Literal, NamedTuple
from nodegraph import Choice, File, Help, OptionsOf, Seed, hookimpl, node


class Own:
    pass


class Sizes(NamedTuple):
    wide: int
    high: float


@node("Measure")
def measure(own: Own, words: list[str], side: Literal["left", "right"] = "left", file: File | None = None, seed: Seed = 0) -> Sizes:
    \"\"\"Measure it, with a "quote" and a \\\\ in the text.\"\"\"
    return Sizes(1, 2.0)


@hookimpl
def register_nodes(register):
    register(measure)
"""


@pytest.fixture(scope="module")
def files():
    return stub_files(load_plugins(with_code=False))


def test_files_are_python_and_know_every_node(files):
    trees = {path: ast.parse(text) for path, text in files.items()}
    (stub,) = (part for part in trees[STUB].body if isinstance(part, ast.ClassDef) and part.name == "Workflow")
    methods = {part.name for part in stub.body if isinstance(part, ast.FunctionDef)}
    public = {name for name, member in vars(Workflow).items() if callable(getattr(Workflow, name)) and not name.startswith("_")}
    assert public <= methods
    (handles,) = (part for path, tree in trees.items() if path.name == "handles.pyi" for part in [tree])
    known_handles = {part.name for part in handles.body if isinstance(part, ast.ClassDef | ast.FunctionDef)} | {"Handle"}
    imported = (
        part for part in trees[STUB].body if isinstance(part, ast.ImportFrom) and part.module == "nodegraph.workflow.handles"
    )
    assert {name.name for part in imported for name in part.names} <= known_handles
    known = set(re.findall(r"type: _?Literal\['(\w+)'\]", files[STUB]))
    assert known == {entry.name for entry in load_plugins(with_code=False).nodes.entries()}


def test_inputs_and_outputs_have_their_types(tmp_path):
    (tmp_path / "measure.py").write_text(PLUGIN)
    text = stub_files(load_plugins([tmp_path], with_code=False))[STUB]
    assert "class _MeasureNode(NodeHandle[_SeveralOutputs]):\n    wide: PortHandle[int]\n    high: PortHandle[float]" in text
    (line,) = (line for line in text.splitlines() if "_Literal['Measure']" in line and "each:" not in line)
    assert line == (
        "    def add(self, type: _Literal['Measure'] | _Sequence[_MeasureNode], /, *, name: str | None = None, "
        "own: _In[Any] | _Array, words: _Many[str], "  # a class of a plugin in a file has no name that a stub can import
        "side: _In[_Literal['left', 'right']] = ..., file: _In[str] | _In[_Path] | None = ..., "
        """seed: _In[int] | _Literal["random"] = ...) -> _MeasureNode:"""
    )
    assert ast.parse(text)


def test_command_writes_and_checks_the_files(cli_folder, run_stubs):
    assert run_stubs("--check") == (
        1,
        [f"would write typings/{path.as_posix()}" for path in stub_files(load_plugins(with_code=False))],
    )
    code, wrote = run_stubs()
    assert (code, len(wrote)) == (0, 4)
    assert run_stubs("--check") == (0, ["up to date"])
    (cli_folder / "typings" / STUB).write_text("")
    assert run_stubs() == (0, [f"wrote typings/{STUB.as_posix()}"])


@pytest.fixture
def cli_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run_stubs(cli_folder):
    from click.testing import CliRunner

    from nodegraph.cli import main

    def run(*args):
        result = CliRunner().invoke(main, ["stubs", *args])
        return result.exit_code, result.stdout.splitlines()

    return run


def write_stubs(files, folder):
    for path in changed_files(files, folder):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(files[path])


def wrong_lines():
    """The lines of the second example that are wrong."""
    lines = (EXAMPLES / "bad.py").read_text().splitlines()
    wrong = {number for number, line in enumerate(lines, start=1) if "# wrong:" in line}
    assert len(wrong) == 7
    return wrong


@pytest.mark.slow
def test_mypy_accepts_the_examples_and_rejects_mistakes(files, tmp_path):
    write_stubs(files, tmp_path / "typings")
    (tmp_path / "mypy.ini").write_text("[mypy]\nstrict = True\nmypy_path = typings\n")
    paths = [EXAMPLES / "good.py", EXAMPLES / "bad.py"]
    ran = subprocess.run(
        [sys.executable, "-m", "mypy", *map(str, paths)], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    found = {(Path(name).name, int(line)) for name, line in re.findall(r"^(\S+?):(\d+): error:", ran.stdout, re.MULTILINE)}
    assert found == {("bad.py", number) for number in wrong_lines()}, ran.stdout
    assert len(ran.stdout.splitlines()) <= 12, ran.stdout  # a line or two for each, and not all signatures of `add`
    assert (
        'Argument "text_encoder" to "add" of "Workflow" has incompatible type "PortHandle[VAE]"; expected "TextEncoder'
        in ran.stdout
    )


@pytest.mark.slow
def test_pyright_accepts_the_examples_and_rejects_mistakes(files, tmp_path):
    pytest.importorskip("pyright")
    write_stubs(files, tmp_path / "typings")
    for name in ("good.py", "bad.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"include": ["*.py"], "typeCheckingMode": "strict"}))
    ran = subprocess.run(
        [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "--outputjson"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYRIGHT_PYTHON_IGNORE_WARNINGS": "1"},
    )
    report = json.loads(ran.stdout)
    assert report["summary"]["filesAnalyzed"] == 2
    found = {(Path(error["file"]).name, error["range"]["start"]["line"] + 1) for error in report["generalDiagnostics"]}
    assert found == {("bad.py", number) for number in wrong_lines()}, ran.stdout
    messages = " ".join(error["message"] for error in report["generalDiagnostics"])
    assert '"PortHandle[VAE]" cannot be assigned to parameter "text_encoder"' in messages
    assert 'Cannot access attribute "text_encoders"' in messages
