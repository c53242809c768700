"""Calls of our own functions and classes name their arguments if there are more than four (STYLE.md, point 19).

Functions that take any number of arguments, and calls that spread a sequence, cannot name them all, so they are left out.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
FOLDERS = ("nodegraph", "nodes", "plugins", "benchmarks", "tests", "docs")
PACKS = ("nodegraph_comfyui", "nodegraph_diffusion", "nodegraph_nodes", "nodegraph_training")
PACKAGES = ("nodegraph", *PACKS, "benchmarks", "plugins", "tests", "docs")
MOST = 4

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def files() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py") if ".venv" not in path.parts)


Relevant = ast.ClassDef | Function | ast.Import | ast.ImportFrom | ast.Call


@cache
def nodes(path: Path) -> list[Relevant]:
    """The definitions, imports and calls in a module."""
    return [node for node in ast.walk(ast.parse(path.read_bytes())) if isinstance(node, Relevant)]


def is_named_tuple(node: ast.ClassDef) -> bool:
    return any(ast.unparse(base).endswith("NamedTuple") for base in node.bases)


@cache
def named_tuples() -> frozenset[str]:
    """The classes that are tuples with named fields: building one by position is what they are for."""
    classes = (node for path in files() for node in nodes(path) if isinstance(node, ast.ClassDef))
    return frozenset(node.name for node in classes if is_named_tuple(node))


@cache
def methods() -> frozenset[str]:
    """The names of our methods that take more than four arguments besides `self`."""
    classes = (node for path in files() for node in nodes(path) if isinstance(node, ast.ClassDef))
    functions = (part for node in classes for part in node.body if isinstance(part, Function))
    return frozenset(function.name for function in functions if len(function.args.args) > MOST + 1 and not takes_any(function))


def takes_any(node: ast.AST) -> bool:
    return isinstance(node, Function) and node.args.vararg is not None


def is_fixture(node: ast.AST) -> bool:
    """Whether this is a fixture: a test calls what it returned, which is not the function of that name."""
    return isinstance(node, Function) and any(ast.unparse(part).startswith("pytest.fixture") for part in node.decorator_list)


@cache
def open_ended() -> frozenset[tuple[str, str]]:
    """The functions that take any number of arguments, as the name of their module and their own."""
    return frozenset((path.stem, node.name) for path in files() for node in nodes(path) if takes_any(node))


def own_names(path: Path) -> set[str]:
    """The names in a module that are ours: defined in it, or imported from one of our packages."""
    names = set()
    for node in nodes(path):
        if isinstance(node, ast.ClassDef | Function):
            if not takes_any(node) and not is_fixture(node):
                names.add(node.name)
        elif isinstance(node, ast.ImportFrom) and (node.level or (node.module or "").split(".")[0] in PACKAGES):
            module = (node.module or "").split(".")[-1]
            names |= {alias.asname or alias.name for alias in node.names if (module, alias.name) not in open_ended()}
        elif isinstance(node, ast.Import):
            names |= {alias.asname or alias.name.split(".")[0] for alias in node.names if alias.name.split(".")[0] in PACKAGES}
    return names - named_tuples()


def long_calls(path: Path) -> Iterator[str]:
    names = own_names(path)
    for node in nodes(path):
        if not isinstance(node, ast.Call) or len(node.args) <= MOST or any(isinstance(part, ast.Starred) for part in node.args):
            continue
        match node.func:
            case ast.Attribute(attr="apply"):  # of a torch.autograd.Function, which takes no names
                ours = False
            case ast.Name(id=name):
                ours = name in names
            case ast.Attribute(value=ast.Name(id=owner), attr=name):
                ours = owner in names or name in methods() or (owner in ("self", "cls") and name in names)
            case ast.Attribute(attr=name):
                ours = name in methods()
            case _:
                ours = False
        if ours:
            place = f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
            yield f"{place}: {ast.unparse(node.func)} gets {len(node.args)} arguments by position"


def test_more_than_four_arguments_are_named():
    assert [call for path in files() for call in long_calls(path)] == []
