"""Nodes inside sub-workflows, items of `each` and repetitions have the keys of the same nodes written by hand."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodegraph import Engine, Workflow
from nodegraph.cache.file_digests import hash_file
from nodegraph.cache.keys import KeyMaker
from nodegraph.plugins.manager import Plugins
from tests.support.graphs import FLOATS, Nodes, graphs, keys_of


@pytest.fixture(scope="module")
def engine(plugins: Plugins) -> Engine:
    return Engine(cache_dir=None, plugins=plugins)


def static_keys(engine: Engine, workflow: Workflow | Path) -> Mapping[str, str]:
    keys = KeyMaker(hash_file, lambda: "none").static_keys(engine.check(workflow))
    assert not keys.without_key
    return keys.static


class Cut:
    """A graph cut into workflows: `group[i]` is the one that node `i` is in, `parent[g]` the one that uses `g`."""

    def __init__(self, nodes: Nodes, group: list[int], parent: list[int]) -> None:
        self.group, self.parent = group, parent
        self.documents: list[dict[str, Any]] = [{"params": {}, "nodes": {}, "outputs": {}} for _ in parent]
        for g in range(1, len(parent)):
            self.documents[parent[g]]["nodes"][f"g{g}"] = {"use": g}
        for i, (type, inputs) in enumerate(nodes):
            written = {port: self.written(group[i], value) for port, value in inputs.items()}
            self.documents[group[i]]["nodes"][f"n{i}"] = {"use": type, **written}

    def written(self, g: int, value: Any) -> Any:
        if isinstance(value, tuple):
            return self.reference(g, value[1])
        return [self.written(g, item) for item in value] if isinstance(value, list) else value

    def reference(self, g: int, i: int) -> str:
        """How workflow `g` refers to node `i`: it is inside, deeper inside, or comes through a param."""
        path = self.path(self.group[i])
        if path[-1] == g:
            return f"$n{i}"
        if g in path:
            child = path[path.index(g) + 1]
            self.documents[child]["outputs"][f"o{i}"] = {"from": self.reference(child, i)}
            return f"$g{child}.o{i}"
        self.documents[g]["params"][f"p{i}"] = {"type": "float"} if i % 2 else {"help": "any"}
        user = self.documents[self.parent[g]]["nodes"][f"g{g}"]
        if f"p{i}" not in user:
            user[f"p{i}"] = self.reference(self.parent[g], i)
        return f"$params.p{i}"

    def path(self, g: int) -> list[int]:
        return [0] if g == 0 else [*self.path(self.parent[g]), g]

    def name(self, i: int) -> str:
        return "/".join([*(f"g{g}" for g in self.path(self.group[i])[1:]), f"n{i}"])

    def write(self, folder: Path, *, one_file: bool) -> Path:
        """Write the workflows, into one file or several. Returns the file of the outermost."""
        for g, document in enumerate(self.documents):
            for node in document["nodes"].values():
                if isinstance(node["use"], int):
                    node["use"] = f"#w{node['use']}" if one_file else f"./w{node['use']}.yaml"
            if not one_file:
                (folder / f"w{g}.yaml").write_text(json.dumps({"nodegraph": 1, **document}))
        if one_file:
            inner = {f"w{g}": document for g, document in enumerate(self.documents) if g}
            (folder / "w0.yaml").write_text(json.dumps({"nodegraph": 1, **self.documents[0], "workflows": inner}))
        return folder / "w0.yaml"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), nodes=graphs())
def test_a_graph_cut_into_workflows_at_random_has_the_same_keys(engine, data, nodes):
    parent = [0, *(data.draw(st.integers(0, g)) for g in range(data.draw(st.integers(0, 3))))]
    group = data.draw(st.lists(st.integers(0, len(parent) - 1), min_size=len(nodes), max_size=len(nodes)))
    nodes = [
        (type, {port: value if not _is_link_to_any(value, nodes) else 1 for port, value in inputs.items()})
        for type, inputs in nodes
    ]
    whole = keys_of(engine, nodes, [f"n{i}" for i in range(len(nodes))], list(range(len(nodes))))
    cut = Cut(nodes, group, parent)
    with tempfile.TemporaryDirectory() as folder:
        keys = static_keys(engine, cut.write(Path(folder), one_file=data.draw(st.booleans())))
    assert [keys[cut.name(i)] for i in range(len(nodes))] == whole


def _is_link_to_any(value: Any, nodes: Nodes) -> bool:
    """Whether a value leads to a node of any type, which a param of type float does not take."""
    return isinstance(value, tuple) and nodes[value[1]][0] == "Anything"


PARTS = """
nodegraph: 1
params: {a: 1.0, b: {type: float}}
nodes:
  plus: {use: Plus, a: $params.a, b: $params.b}
  again: {use: Plus, a: $plus, b: 3}
outputs: {sum: {from: $again}}
"""

HALVES = """
nodegraph: 1
params: {text: ab}
nodes:
  halves: {use: Split, text: $params.text}
  doubled: {use: Repeat, text: $halves.right}
outputs: {left: {from: $halves.left}, doubled: {from: $doubled}}
"""


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pairs=st.lists(st.tuples(FLOATS, FLOATS), max_size=4),
    start=FLOATS,
    times=st.integers(1, 4),
    cases=st.permutations([("chosen", "$repeated.sum"), ("other", "$total"), ("literal", 3.0)]),
    words=st.lists(st.sampled_from(["", "ab", "abcd"]), max_size=3),
)
def test_expansion_means_what_a_hand_written_graph_means(engine, pairs, start, times, cases, words):
    lists = {"a": [a for a, _ in pairs], "b": [b for _, b in pairs]}
    composed = {
        "params": {"bs": {"type": "list[float]", "default": lists["b"]}},
        "nodes": {
            "total": {"use": "Total", "values": "$sums.sum"},
            "sums": {"use": "./parts.yaml", "each": {"a": lists["a"], "b": "$params.bs"}},
            "more": {"use": "Plus", "b": start, "each": {"a": "$sums.sum"}},
            "totals": {"use": "Total", "each": {"values": [lists["a"], "$more"]}},
            "chosen": {"use": "Switch", "on": "chosen", "cases": dict(cases)},
            "repeated": {"use": "./parts.yaml", "a": start, "b": 2, "repeat": {"times": times, "carry": {"a": "sum"}}},
            "end": {"use": "Plus", "a": "$chosen"},
            "cut": {"use": "./halves.yaml", "each": {"text": words}},
            "lefts": {"use": "Repeat", "each": {"text": "$cut.left"}},
            "default": {"use": "./halves.yaml"},
        },
    }
    by_hand: dict[str, Any] = {}
    for i, (a, b) in enumerate(pairs):
        by_hand[f"sums_{i}_plus"] = {"use": "Plus", "a": a, "b": b}
        by_hand[f"sums_{i}_again"] = {"use": "Plus", "a": f"$sums_{i}_plus", "b": 3}
        by_hand[f"more_{i}"] = {"use": "Plus", "a": f"$sums_{i}_again", "b": start}
    by_hand["total"] = {"use": "Total", "values": [f"$sums_{i}_again" for i in range(len(pairs))]}
    by_hand["totals_0"] = {"use": "Total", "values": lists["a"]}
    by_hand["totals_1"] = {"use": "Total", "values": [f"$more_{i}" for i in range(len(pairs))]}
    for i in range(times):
        before = f"$repeated_{i - 1}_again" if i else start
        by_hand[f"repeated_{i}_plus"] = {"use": "Plus", "a": before, "b": 2}
        by_hand[f"repeated_{i}_again"] = {"use": "Plus", "a": f"$repeated_{i}_plus", "b": 3}
    by_hand["end"] = {"use": "Plus", "a": f"$repeated_{times - 1}_again"}
    for name, word in [*((f"cut_{i}", word) for i, word in enumerate(words)), ("default", "ab")]:
        by_hand[f"{name}_halves"] = {"use": "Split", "text": word}
        by_hand[f"{name}_doubled"] = {"use": "Repeat", "text": f"${name}_halves.right"}
    by_hand |= {f"lefts_{i}": {"use": "Repeat", "text": f"$cut_{i}_halves.left"} for i in range(len(words))}
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "parts.yaml").write_text(PARTS)
        (Path(folder) / "halves.yaml").write_text(HALVES)
        found = static_keys(engine, _parsed(composed, Path(folder)))
    expected = static_keys(engine, _parsed({"nodes": by_hand}))
    assert {name.replace("[", "_").replace("]", "").replace("/", "_"): key for name, key in found.items()} == expected


def _parsed(document: dict[str, Any], base: Path | None = None) -> Workflow:
    return Workflow.parse(json.dumps({"nodegraph": 1, **document}), base=base)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(n=st.integers(0, 4), start=st.integers(-3, 3), rows=st.integers(0, 3), case=st.sampled_from(["plus", "fixed"]))
def test_lists_and_cases_that_nodes_make_mean_what_those_in_the_file_mean(engine, n, start, rows, case):
    def workflow(numbers: Any, table: Any, mode: Any) -> Workflow:
        nodes = {
            "numbers": {"use": "Count", "n": n, "start": start},
            "table": {"use": "Rows", "n": rows, "length": 2},
            "mode": {"use": "Decide", "text": case},
            "plus": {"use": "Plus", "b": 0.5, "each": {"a": numbers}},
            "chosen": {"use": "Switch", "on": mode, "cases": {"plus": "$plus", "fixed": [1.0, "$one"]}},
            "one": {"use": "Number", "value": 1},
            "again": {"use": "Plus", "each": {"a": "$chosen"}},
            "total": {"use": "Total", "values": "$again"},
            "row": {"use": "#row", "each": {"row": table}},
            "rows": {"use": "Total", "values": "$row.total"},
        }
        inner = {
            "params": {"row": {"type": "list[int]"}},
            "nodes": {"each": {"use": "Plus", "each": {"a": "$params.row"}}, "total": {"use": "Total", "values": "$each"}},
            "outputs": {"total": {"from": "$total"}},
        }
        outputs = {"again": {"from": "$again"}, "total": {"from": "$total"}, "rows": {"from": "$rows"}}
        return _parsed({"nodes": nodes, "outputs": outputs, "workflows": {"row": inner}})

    made = Engine(cache_dir=None, plugins=engine.plugins).run(workflow("$numbers", "$table", "$mode"))
    in_file = workflow([*range(start, start + n)], [[10 * row, 10 * row + 1] for row in range(rows)], case)
    written = Engine(cache_dir=None, plugins=engine.plugins).run(in_file)
    assert all(made[name] == written[name] for name in ("again", "total", "rows"))
    contents = [{name: report.content for name, report in result.nodes.items()} for result in (made, written)]
    names = [name for name in contents[1] if name.startswith(("again", "total", "rows", "row")) and "each" not in name]
    assert [contents[0][name] for name in names] == [contents[1][name] for name in names]
