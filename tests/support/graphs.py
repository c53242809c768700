"""Random graphs of stub nodes, and their keys."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

from nodegraph import Engine, Workflow
from nodegraph.cache.file_digests import hash_file
from nodegraph.cache.keys import KeyMaker

Node = tuple[str, dict[str, Any]]  # type and inputs; ("link", i) is the output of node i
Nodes = list[Node]

FLOATS = st.sampled_from([0.0, -0.0, 1.0, 1, 2.5, -1e300, 5e-324])
ANYTHING = st.recursive(
    st.none() | st.booleans() | FLOATS | st.sampled_from(["", "1", "1.0", "true", "none"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
    max_leaves=4,
)


@st.composite
def graphs(draw: st.DrawFn) -> Nodes:
    """Up to six nodes, whose inputs are literals and earlier nodes."""
    nodes: Nodes = []
    for _ in range(draw(st.integers(1, 6))):
        numbers = [("link", i) for i, (type, _) in enumerate(nodes) if type in ("Number", "Plus", "Total")]
        number = FLOATS | st.sampled_from(numbers) if numbers else FLOATS
        anything = ANYTHING | st.sampled_from([("link", i) for i in range(len(nodes))]) if nodes else ANYTHING
        inputs = {
            "Number": st.fixed_dictionaries({}, optional={"value": number}),
            "Plus": st.fixed_dictionaries({"a": number}, optional={"b": number}),
            "Total": st.fixed_dictionaries({"values": st.lists(number, max_size=3)}),
            "Anything": st.fixed_dictionaries({"value": anything}),
        }
        type = draw(st.sampled_from(sorted(inputs)))
        nodes.append((type, draw(inputs[type])))
    return nodes


def keys_of(engine: Engine, nodes: Nodes, names: list[str], order: list[int]) -> list[str]:
    """The static key of each node in a workflow file with these `names` and this `order`."""

    def written(value: Any) -> Any:
        if isinstance(value, tuple):
            return f"${names[value[1]]}"
        return [written(item) for item in value] if isinstance(value, list) else value

    listed = {
        names[i]: {"use": nodes[i][0], **{port: written(value) for port, value in sorted(nodes[i][1].items(), reverse=i % 2 == 0)}}
        for i in order
    }
    graph = engine.check(Workflow.parse(json.dumps({"nodegraph": 1, "nodes": listed})))
    keys = KeyMaker(hash_file, lambda: "none").static_keys(graph)
    assert not keys.without_key
    return [keys.static[name] for name in names]
