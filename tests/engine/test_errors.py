"""Errors form one tree, shown in the docstring of `nodegraph.errors`, and every code is declared where it is raised."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import nodegraph
from nodegraph import errors
from nodegraph.errors import NodegraphError

ROOT = Path(__file__).parents[2]
CODES = {code: (meaning, kind) for kind in NodegraphError.__subclasses__() for code, meaning in kind.codes.items()}


def test_docstring_shows_every_error():
    drawn = re.findall(r"^    [├└]── (\w+)", errors.__doc__, re.MULTILINE)
    assert sorted(drawn) == sorted(kind.__name__ for kind in exceptions() if kind is not NodegraphError)


def test_docstring_has_the_exit_status_of_each_error():
    drawn = re.findall(r"^    [├└]── (\w+) +(\d+) ", errors.__doc__, re.MULTILINE)
    assert {name: int(status) for name, status in drawn} == {name: getattr(errors, name).exit_status for name, _ in drawn}


def test_every_error_is_a_nodegraph_error():
    for kind in exceptions():
        assert issubclass(kind, NodegraphError), kind
        assert kind.__name__.endswith("Error") or kind.__name__ == "Cancelled"


def test_each_code_is_declared_once():
    declared = Counter(code for kind in exceptions() for code in vars(kind).get("codes", {}))
    assert [code for code, count in declared.items() if count > 1] == []


def test_declared_codes_are_the_raised_codes():
    assert set(codes_in_source()) == set(CODES)


def exceptions() -> list[type[Exception]]:
    """Every exception class that a module of the engine defines."""
    found = []
    for module in pkgutil.walk_packages(nodegraph.__path__, "nodegraph."):
        if not module.name.endswith("__main__"):
            namespace = vars(importlib.import_module(module.name)).values()
            found += [
                kind
                for kind in namespace
                if isinstance(kind, type) and issubclass(kind, Exception) and kind.__module__ == module.name
            ]
    return found


def codes_in_source() -> Iterator[str]:
    for folder in ("nodegraph", "nodes", "plugins"):
        for path in (ROOT / folder).rglob("*.py"):
            if path != ROOT / "nodegraph/errors.py":
                yield from re.findall(r"\bE\d{3}\b", path.read_text(encoding="utf-8"))
    yield "E201"  # NodeError writes its only code itself
