"""What imports load: the engine no torch, the library no engine, listings nothing heavy; tests share helpers in `tests.support`."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HEAVY = {"torch", "numpy", "PIL", "safetensors", "tokenizers", "transformers", "diffusers"}


def modules(package: Path) -> list[Path]:
    return sorted(path for path in package.rglob("*.py") if "__pycache__" not in path.parts)


def name_of(path: Path, package: Path) -> str:
    return ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__")


def package_of(path: Path, level: int) -> str:
    """The package that `level` dots mean in the file at `path`."""
    parts = [path.parents[k].name for k in range(level - 1, len(path.parents)) if (path.parents[k] / "__init__.py").exists()]
    return ".".join(reversed(parts))


def imports(path: Path, *, at_import_only: bool) -> Iterator[str]:
    """The absolute names that a file imports; with `at_import_only`, those that importing the file imports."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = ".".join(filter(None, (package_of(path, node.level) if node.level else "", node.module)))
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif at_import_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            pending.extend(node.orelse)
            continue
        for part in ("body", "orelse", "finalbody", "handlers", "cases"):  # only statements import
            pending.extend(getattr(node, part, ()))


def roots(path: Path, *, at_import_only: bool = False) -> set[str]:
    return {name.partition(".")[0] for name in imports(path, at_import_only=at_import_only)}


def importers(package: str, names: set[str], *, at_import_only: bool = False) -> dict[str, set[str]]:
    """The modules in a package that import one of these packages, each with those it imports."""
    found = {path: roots(path, at_import_only=at_import_only) & names for path in modules(ROOT / package)}
    assert found
    return {name_of(path, ROOT / package): imported for path, imported in found.items() if imported}


def test_engine_imports_no_tensors_and_no_pictures():
    assert importers("nodegraph", HEAVY | {"nodegraph_nodes", "nodegraph_diffusion"}) == {}


def test_diffusion_library_does_not_import_the_engine():
    assert importers("nodes/nodegraph_diffusion", {"nodegraph", "nodegraph_nodes"}) == {}


def test_node_pack_imports_torch_only_when_a_node_runs():
    assert importers("nodes/nodegraph_nodes", HEAVY, at_import_only=True) == {}


def test_training_pack_imports_torch_only_when_a_node_runs():
    found = importers("nodes/nodegraph_training", HEAVY, at_import_only=True)
    assert [name for name in found if not name.startswith("nodegraph_training.training.")] == []  # which only running nodes import


@pytest.mark.parametrize("folder", ["tests", "plugins", "benchmarks"])
def test_test_helpers_are_imported_from_support(folder):
    for path in modules(ROOT / folder):
        found = {name for name in imports(path, at_import_only=False) if name.startswith("tests.")}
        allowed = ("tests.support.", "tests.fuzz.") if "fuzz" in path.parts else "tests.support."
        assert all(name.startswith(allowed) for name in found), path


@pytest.mark.parametrize("name", ["noise_schedule", "options", "schedules", "sampling", "guidance"])
def test_listings_of_samplers_need_no_torch(name):
    module = ROOT / "nodes/nodegraph_diffusion" / name
    for path in modules(module) if module.is_dir() else [module.with_suffix(".py")]:
        assert not roots(path, at_import_only=True) & HEAVY, path


@pytest.mark.parametrize(
    ("statement", "absent"),
    [
        ("import nodegraph", HEAVY | {"networkx", "click", "rich", "yaml"}),
        ("from nodegraph import Engine, Workflow", HEAVY | {"click", "rich"}),
        ("import nodegraph_nodes.plugin, nodegraph_training.plugin", HEAVY | {"nodegraph_nodes.nodes", "nodegraph_diffusion"}),
        ("from nodegraph_nodes import plugin; plugin.register_nodes(id)", HEAVY),
        ("from nodegraph_training import plugin; plugin.register_nodes(id)", HEAVY),
        ("import nodegraph_nodes.types", HEAVY),
        (
            "from nodegraph_comfyui import plugin as p; p._import(type('', (), {'data': b'nodegraph: 1'}))",
            {"nodegraph_comfyui.importer"},
        ),
        ("import nodegraph_diffusion", HEAVY),
        ("import nodegraph_diffusion.sampling, nodegraph_diffusion.schedules, nodegraph_diffusion.guidance", HEAVY | {"scipy"}),
    ],
)
def test_import_leaves_heavy_modules_out(statement, absent):
    code = f"import sys; {statement}; print(*sorted(set(sys.modules) & {absent!r}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == []
