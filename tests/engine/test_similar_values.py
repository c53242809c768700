"""Values that print alike, compare as equal or are written differently: a hit is always what the node would compute now."""

from __future__ import annotations

import enum
import json
import math
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nodegraph import Engine, Workflow

PLUGIN = """
from typing import Any
from nodegraph import hookimpl, node

@node("Show")
def show(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"

@node("Names")
def names(mapping: dict[str, Any]) -> str:
    return " ".join(mapping) + " " + " ".join(f"{name}: {' '.join(inner)}" for name, inner in mapping.items() if inner)

@node("Returns")
def returns(expression: str) -> Any:
    return eval(expression)

@hookimpl
def register_nodes(register):
    for function in (show, names, returns):
        register(function)
"""


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    (tmp_path / "plugins").mkdir()
    (tmp_path / "plugins" / "showing.py").write_text(PLUGIN)
    return Engine(tmp_path / "cache", plugin_dirs=[tmp_path / "plugins"])


def one(type: str, **inputs: Any) -> Workflow:
    workflow = Workflow("one")
    workflow.output("out", workflow.add(type, name="node", **inputs))
    return workflow


def seen(engine: Engine, **inputs: Any) -> str:
    """What a node sees of its inputs, whether it runs or its result is cached."""
    return str(engine.run(one("Show", **inputs))["out"])


class Text(str):
    """Equal to every other text."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)

    def __hash__(self) -> int:
        return 0


class Number(int):
    def __repr__(self) -> str:
        return "7"


def colour(value: int) -> enum.Enum:
    """A member of one enum; with another value, as after an edit of its class."""
    return enum.Enum("Colour", {"RED": value}, module="a_module", qualname="Colour").RED  # type: ignore[attr-defined, no-any-return]


ALIKE = {
    "booleans and numbers": (True, 1, 1.0),
    "zeros": (0, 0.0, -0.0, False),
    "numbers of NumPy": (np.float32(0.1), np.float64(0.1), 0.1),
    "fractions": (Fraction(1, 3), 0.3333),
    "large numbers": (2**64, 2**64 + 1, float(2**64)),
    "huge and tiny numbers": (1e308, math.inf, 5e-324, 1e-323, 0.0),
    "text of other classes": (Text("a"), Text("b"), "c"),
    "whole numbers of other classes": (Number(1), Number(2)),
    "members of an enum with another value": (colour(1), colour(2)),
    "forms of Unicode": ("\u00e9", "e\u0301"),
    "empty values": ([], {}, "", None, 0),
    "text and numbers": ("1", 1, [1], ["1"], {"1": 1}),
}


@pytest.mark.slow
@pytest.mark.parametrize("values", ALIKE.values(), ids=ALIKE)
def test_alike_values_are_not_mixed_up(engine: Engine, tmp_path: Path, values: tuple[Any, ...]) -> None:
    without_cache = Engine(None, plugins=engine.plugins)
    for value in (*values, *values):
        without_cache.cache.clear()
        assert seen(engine, value=value) == seen(without_cache, value=value)


def test_order_of_a_mapping_never_reaches_a_node(engine: Engine) -> None:
    """Its order is not in keys, so a mapping is sorted, whether it is a literal or comes through a link."""
    first = engine.run(one("Names", mapping={"b": {"y": 1, "x": 2}, "a": None}))["out"]
    assert first == "a b b: x y"
    again = engine.run(one("Names", mapping={"a": None, "b": {"x": 2, "y": 1}}))
    assert (again["out"], again.cached) == (first, ("node",))
    workflow = Workflow("linked")
    made = workflow.add("Returns", name="made", expression="{'b': {'y': 1, 'x': 2}, 'a': None}")
    workflow.output("out", workflow.add("Names", name="node", mapping=made))
    assert engine.run(workflow)["out"] == first


RETURNED = ["-0.0", "5e-324", "1e308", "2**70", "[True, 1, 1.0]", "'e\\u0301'", "{'b': 1, 'a': [None]}", "[]", "''"]


@pytest.mark.parametrize("expression", RETURNED)
def test_value_of_json_is_the_same_when_it_is_stored(engine: Engine, expression: str) -> None:
    workflow = Workflow("shown")
    workflow.output("shown", workflow.add("Show", name="shown", value=workflow.add("Returns", name="made", expression=expression)))
    fresh = engine.run(workflow)["shown"]
    hit = engine.run(workflow, force=["shown"])
    assert (hit["shown"], hit.cached) == (fresh, ("made",))
    expected = eval(expression)
    assert fresh.endswith(repr(dict(sorted(expected.items())) if isinstance(expected, dict) else expected))


@pytest.mark.parametrize("expression", ["float('nan')", "[float('inf')]", "'\\ud800'", "{1: 2}", "[(1, 2)]", "{1}", "10**5000"])
def test_value_that_json_would_change_is_not_stored_as_json(engine: Engine, expression: str) -> None:
    workflow = Workflow("one")
    workflow.add("Returns", name="node", expression=expression)
    engine.run(workflow, targets=["node"], raise_errors=False)
    assert list(engine.cache.entries()) == []


def test_keys_do_not_depend_on_the_locale_and_the_seed_of_hashes(engine: Engine, tmp_path: Path) -> None:
    workflow = one("Show", value={"b": 0.1, "a": ["\u00e9", 1e100]})
    key = engine.run(workflow).nodes["node"].content
    (tmp_path / "one.yaml").write_text(workflow.dump(), encoding="utf-8")
    command = [sys.executable, "-m", "nodegraph", "run", "one.yaml", "--json", "--cache-dir", "cache", "--plugin-dir", "plugins"]
    environment = {**os.environ, "LC_ALL": "C", "PYTHONUTF8": "1", "PYTHONHASHSEED": "7"}
    ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=True)
    assert json.loads(ran.stdout)["nodes"]["node"]["status"] == "cached"
    assert key is not None
