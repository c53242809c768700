"""What the tests use, read from their source: the functions they call, hooks they implement and commands they run."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]
RUNNERS = {"cli", "other_process", "process", "assert_refused", "imported_by", "invoke", "Popen", "run"}
"""Functions and methods of the tests that run a command with the words that they receive."""


@cache
def called_functions() -> frozenset[str]:
    """Every function that a test calls directly, as "module.function"."""
    called = set()
    for tree in _trees():
        imported = _imported(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and (name := _dotted(node.func, imported)):
                called.add(name)
    return frozenset(called)


@cache
def implemented_hooks() -> frozenset[str]:
    """Every hook that a plugin in the tests implements, plugins written as text included."""
    hooks = set()
    for tree in _trees():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and any("hookimpl" in ast.unparse(mark) for mark in node.decorator_list):
                hooks.add(node.name)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                hooks.update(re.findall(r"@hookimpl(?:\([^)]*\))?\s+def (\w+)\(", node.value))
    return frozenset(hooks)


@cache
def run_commands() -> frozenset[tuple[str, ...]]:
    """The literal words at the start of each call that runs a command, such as ("cache", "ls")."""
    runs = set()
    for node in (node for tree in _trees() for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and _called_name(node) in RUNNERS:
            runs.update(_words(node))
    for node in (node for tree in _trees("tests/cli/*.py") for node in ast.walk(tree)):
        if isinstance(node, ast.Call) and _called_name(node) == "parametrize":  # commands that one test runs in turn
            runs.update(words for argument in node.args[1:] for words in _listed(argument))
    return frozenset(runs)


@cache
def kit_registries() -> frozenset[str]:
    """The registries whose every entry goes through the test kit: a test of the kit is parametrized with the whole of each."""
    registries = set()
    for tree in _trees("tests/diffusion/test_kit*.py"):
        imported = _imported(tree)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef) and "check" in {argument.arg for argument in node.args.args}:
                for mark in node.decorator_list:
                    if isinstance(mark, ast.Call) and ast.unparse(mark.args[0]) == "'name'" and isinstance(mark.args[1], ast.Name):
                        registries.add(imported[mark.args[1].id])
    return frozenset(registries)


def _trees(*patterns: str) -> Iterator[ast.Module]:
    for pattern in patterns or ("tests/**/*.py", "plugins/**/*.py"):
        for path in sorted(ROOT.glob(pattern)):
            yield ast.parse(path.read_text(encoding="utf-8"))


def _imported(tree: ast.Module) -> dict[str, str]:
    """The full name behind each name that the module imports."""
    names = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.name.partition(".")[0]
                names |= {alias.asname: alias.name} if alias.asname else {top: top}
    return names


def _dotted(function: ast.expr, imported: dict[str, str]) -> str | None:
    """The full name of what a call calls, if its first part was imported."""
    parts = []
    while isinstance(function, ast.Attribute):
        parts.append(function.attr)
        function = function.value
    if not isinstance(function, ast.Name) or function.id not in imported:
        return None
    return ".".join([imported[function.id], *reversed(parts)])


def _called_name(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _words(call: ast.Call) -> Iterator[tuple[str, ...]]:
    """The literal words in a call, also those of a list among its arguments."""
    yield _leading(call.args)
    for argument in call.args:
        if isinstance(argument, ast.List | ast.Tuple):
            yield _leading(argument.elts)


def _listed(node: ast.expr) -> Iterator[tuple[str, ...]]:
    for inner in ast.walk(node):
        if isinstance(inner, ast.List | ast.Tuple):
            yield _leading(inner.elts)
        elif isinstance(inner, ast.Constant) and isinstance(inner.value, str):
            yield tuple(inner.value.split())


def _leading(arguments: list[ast.expr]) -> tuple[str, ...]:
    """The words up to the first argument that is not a literal word; other arguments before a word (fixtures) are skipped."""
    words: list[str] = []
    for argument in arguments:
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
            words += argument.value.split()
        elif words:
            break
    return tuple(words)
