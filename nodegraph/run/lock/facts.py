"""Finds out what the results of a checked graph depend on."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from nodegraph.graph.graph import Graph, Input, ListWithLinks, ResolvedLink, Value
from nodegraph.node_types.portable import portable
from nodegraph.plugins.code.libraries import versions_of_imported, versions_of_required
from nodegraph.plugins.discovery import LoadedPlugin
from nodegraph.plugins.distributions import engine_version
from nodegraph.plugins.manager import Plugins
from nodegraph.plugins.registry import Origin
from nodegraph.run.lock.lock_file import Files, Lock
from nodegraph.text import described
from nodegraph.workflow.definitions import Link


def facts_of(graph: Graph, plugins: Plugins, *, digest: Callable[[Path], str], numerics: Callable[[], str]) -> Lock:
    """What the results of `graph` depend on. `digest` returns the SHA-256 of a file, `numerics` the class of the results."""
    is_numeric = any(node.spec.numeric for node in graph.nodes.values())
    used = sorted(_origins(graph), key=lambda origin: origin.plugin)
    return Lock(
        workflow=graph.workflow,
        nodes=_as_read(plain_nodes(graph)),
        files=files_of(graph, digest),
        plugins={origin.plugin: _version(origin) for origin in used},
        libraries=_libraries(plugin for plugin in plugins.loaded if plugin.name in {origin.plugin for origin in used}),
        numerics=numerics() if is_numeric else None,
        seeds=dict(sorted(graph.seeds.items())),
    )


def plain_nodes(graph: Graph) -> dict[str, dict[str, Any]]:
    """Each node of the graph as a workflow would have it, with all inputs, also defaults."""
    start = graph.resolved.base
    return {
        name: {"use": node.spec.name, "inputs": {port: _plain(input, start) for port, input in node.inputs.items()}}
        for name, node in graph.nodes.items()
    }


def files_of(graph: Graph, digest: Callable[[Path], str]) -> Files:
    """The SHA-256 of the files that the nodes read, by the text that names them and by their names there.

    A file that cannot be read is left out: the node that reads it reports it.
    """
    found: dict[str, dict[str, str]] = {}
    for value in graph.read_values():
        address = _address(value, graph.resolved.base)
        for name, path in sorted((value.files or {}).items()):
            try:
                found.setdefault(address, {})[name] = digest(path)
            except OSError:
                continue
    return dict(sorted(found.items()))


def _as_read(value: Any) -> Any:
    """A value as a lock file gives it back: a link to a node inside another one is text, because no file can have such a link."""
    if isinstance(value, dict):
        return {name: _as_read(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_as_read(item) for item in value]
    is_inside = isinstance(value, Link) and any(mark in str(value) for mark in "/[")
    return str(value) if is_inside else value


def _address(value: Value, start: Path) -> str:
    assert value.address is not None  # only values that name files are asked
    assert value.base is not None
    return portable(value.address, value.base, start)


def _plain(input: Input, start: Path) -> Any:
    if isinstance(input, ResolvedLink):
        return Link(input.node, input.port)
    if isinstance(input, ListWithLinks):
        return [_plain(item, start) for item in input.items]
    if input.entry is not None:
        return input.entry.name
    if input.address is not None:
        return _address(input, start)
    return input.value if input.digest is None else f"{described(input.value)} {input.digest}"


def _origins(graph: Graph) -> set[Origin]:
    """The plugins of the nodes, and of the registered things that they use."""
    values = (input for node in graph.nodes.values() for input in node.inputs.values())
    entries = (value.entry for value in values if isinstance(value, Value) and value.entry is not None)
    return {*(node.origin for node in graph.nodes.values()), *(entry.origin for entry in entries)}


def _version(origin: Origin) -> Mapping[str, str]:
    code = origin.digest or origin.build
    return {"version": origin.version} | ({"code": code} if code else {})


def _libraries(plugins: Iterable[LoadedPlugin]) -> dict[str, str]:
    """The versions of nodegraph, Python and the libraries that the plugins use."""
    found = {"nodegraph": engine_version(), "python": platform.python_version()}
    for plugin in plugins:
        if plugin.code is None:
            continue
        if plugin.code.is_release and plugin.distribution is not None:
            import importlib.metadata

            listed = versions_of_required(importlib.metadata.requires(plugin.distribution) or ())
        else:
            listed = versions_of_imported(plugin.code.libraries)
        found |= dict(sorted(line.rpartition(" ")[::2] for line in listed))
    return found
