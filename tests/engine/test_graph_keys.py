"""Keys of whole graphs do not depend on the names and the order of nodes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodegraph import Engine, Workflow, WorkflowError
from nodegraph.cache.file_digests import hash_file
from nodegraph.cache.keys import KeyMaker, canonical
from nodegraph.plugins.manager import Plugins
from tests.support.graphs import ANYTHING, Nodes, graphs, keys_of


@pytest.fixture(scope="module")
def engine(plugins: Plugins) -> Engine:
    return Engine(cache_dir=None, plugins=plugins)


def names_for(nodes: Nodes, letter: str = "n") -> list[str]:
    return [f"{letter}{i}" for i in range(len(nodes))]


DEFAULTS: Mapping[str, Mapping[str, Any]] = {"Number": {"value": 0.0}, "Plus": {"b": 1.0}}


def meaning(nodes: Nodes, i: int) -> Any:
    """What node i computes, in a form in which == also compares types, and 0.0 differs from -0.0. Does not use keys."""
    type, literals = nodes[i]

    def of(value: Any) -> Any:
        if isinstance(value, tuple):
            return ("made by", meaning(nodes, value[1]))
        if isinstance(value, list):
            return ("list", tuple(map(of, value)))
        if isinstance(value, dict):
            return ("dict", frozenset((key, of(item)) for key, item in value.items()))
        if type != "Anything" and isinstance(value, int):
            value = float(value)  # as the port converts it
        return (value.__class__, value, math.copysign(1, value) if isinstance(value, float) else None)

    return type, frozenset((port, of(value)) for port, value in {**DEFAULTS.get(type, {}), **literals}.items())


bounded = settings(
    deadline=None, max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@bounded
@given(nodes=graphs(), random=st.randoms(use_true_random=False))
def test_names_and_order_change_no_key(engine: Engine, nodes: Nodes, random: Any) -> None:
    order = list(range(len(nodes)))
    before = keys_of(engine, nodes, names_for(nodes), order)
    names = names_for(nodes, "other")
    random.shuffle(names)
    random.shuffle(order)
    assert keys_of(engine, nodes, names, order) == before


@bounded
@given(first=graphs(), second=graphs())
def test_nodes_share_a_key_only_if_equivalent(engine: Engine, first: Nodes, second: Nodes) -> None:
    keyed: dict[str, Any] = {}
    meant: dict[Any, str] = {}
    for nodes in (first, second):
        for i, key in enumerate(keys_of(engine, nodes, names_for(nodes), list(range(len(nodes))))):
            assert keyed.setdefault(key, meaning(nodes, i)) == meaning(nodes, i)
            assert meant.setdefault(meaning(nodes, i), key) == key


@bounded
@given(nodes=graphs(), pick=st.integers(0, 5), value=st.integers(3, 99))
def test_changed_literal_changes_only_dependent_keys(engine: Engine, nodes: Nodes, pick: int, value: int) -> None:
    changed = pick % len(nodes)
    ports = {"Number": "value", "Plus": "a", "Total": "values", "Anything": "value"}
    type, literals = nodes[changed]
    edited = nodes.copy()
    edited[changed] = (type, {**literals, ports[type]: [float(value)] if type == "Total" else float(value)})
    reached: set[int] = {changed}
    for i, (_, inputs) in enumerate(edited):
        links = [link for value in inputs.values() for link in (value if isinstance(value, list) else [value])]
        if any(isinstance(link, tuple) and link[1] in reached for link in links):
            reached.add(i)
    order = list(range(len(nodes)))
    before, after = (keys_of(engine, some, names_for(nodes), order) for some in (nodes, edited))
    assert {i for i in order if before[i] != after[i]} == reached


# --- literals, after conversion to the port's type


def key_of(engine: Engine, type: str, **inputs: Any) -> str:
    workflow = Workflow("w")
    workflow.add(type, name="n", **inputs)
    return KeyMaker(hash_file, lambda: "none").static_keys(engine.check(workflow)).static["n"]


@bounded
@given(one=ANYTHING, other=ANYTHING)
def test_any_typed_port_distinguishes_all_values(engine: Engine, one: Any, other: Any) -> None:
    same = meaning([("Anything", {"value": one})], 0) == meaning([("Anything", {"value": other})], 0)
    assert (key_of(engine, "Anything", value=one) == key_of(engine, "Anything", value=other)) == same


def test_any_typed_port_distinguishes_equal_numbers(engine: Engine) -> None:
    alike = [1, 1.0, True, "1", 0, 0.0, -0.0, False, "", [], {}, None, [1], [1.0], [True], {"a": 0.0}, {"a": -0.0}, [[]], [None]]
    assert len({key_of(engine, "Anything", value=value) for value in alike}) == len(alike)


def test_equal_values_of_a_port_share_a_key(engine: Engine) -> None:
    assert key_of(engine, "Number", value=1) == key_of(engine, "Number", value=1.0)
    assert key_of(engine, "Number", value=0) == key_of(engine, "Number", value=0.0) == key_of(engine, "Number")
    assert key_of(engine, "Number", value=0.0) != key_of(engine, "Number", value=-0.0)
    assert key_of(engine, "Total", values=[1, 2]) == key_of(engine, "Total", values=[1.0, 2.0])
    assert key_of(engine, "Total", values=[1, 2]) != key_of(engine, "Total", values=[2, 1])
    assert key_of(engine, "Total", values=[]) != key_of(engine, "Total", values=[0])


@pytest.mark.parametrize(
    ("type", "port", "value"),
    [
        ("Number", "value", True),
        ("Number", "value", "1"),
        ("Number", "value", math.nan),
        ("Total", "values", [1.0, math.nan]),
        ("Anything", "value", math.nan),
        ("Anything", "value", {"a": [math.nan]}),
        ("Draw", "seed", 1.5),
        ("Draw", "seed", True),
        ("Draw", "seed", "1"),
    ],
)
def test_refused_values_have_no_key(engine: Engine, type: str, port: str, value: Any) -> None:
    with pytest.raises(WorkflowError):
        key_of(engine, type, **{port: value})


def test_surrogate_pair_differs_from_its_character() -> None:
    assert canonical("\ud83d\ude00") != canonical("\U0001f600")
    assert canonical({"\ud83d\ude00": 1}) != canonical({"\U0001f600": 1})
