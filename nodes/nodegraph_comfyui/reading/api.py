"""Reads the API format: nodes by id, each with its class and the values and links of its inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodegraph.plugin_api import Problem, WorkflowError
from nodegraph_comfyui.reading.graph import MOST_NODES, ComfyGraph, ComfyNode, Wire, problem, shortened


def read_api(content: Mapping[str, Any], file: str) -> ComfyGraph:
    """The graph in `content`. Raises WorkflowError with every mistake in its form."""
    if len(content) > MOST_NODES:
        raise WorkflowError([problem(f"{file} has {len(content):,} nodes; at most {MOST_NODES:,} are supported")])
    problems: list[Problem] = []
    nodes = {}
    for id, node in content.items():
        if not isinstance(node, dict) or not isinstance(node.get("class_type"), str):
            problems.append(
                problem(f"{file}: node {shortened(id)} has no class ('class_type')", "Save the graph again in ComfyUI.")
            )
            continue
        inputs = node.get("inputs", {})
        if not isinstance(inputs, dict):
            problems.append(
                problem(f"{file}: 'inputs' of node {shortened(id)} must be a mapping", "Save the graph again in ComfyUI.")
            )
            continue
        meta = node.get("_meta")
        title = meta.get("title") if isinstance(meta, dict) else None
        nodes[id] = ComfyNode(
            id=id,
            kind=node["class_type"].strip(),
            title=title if isinstance(title, str) else "",
            inputs={name: _value(value) for name, value in inputs.items()},
        )
    for node in nodes.values():
        for name, value in node.inputs.items():
            if isinstance(value, Wire) and value.node not in content:
                message = f"{file}: '{shortened(name)}' of {node} comes from node {shortened(value.node)}, which does not exist"
                problems.append(problem(message, "Save the graph again in ComfyUI."))
    if problems:
        raise WorkflowError(problems)
    return ComfyGraph(nodes=nodes)


def _value(value: Any) -> Any:
    """A value, or the link that `[id, slot]` stands for; `{"__value__": [...]}` is a list that looks like one."""
    if isinstance(value, dict) and [*value] == ["__value__"]:
        return value["__value__"]
    if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str | int) and _is_slot(value[1]):
        return Wire(str(value[0]), value[1])
    return value


def _is_slot(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1000
