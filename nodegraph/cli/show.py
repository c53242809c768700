"""`nodegraph show`: the graph of a workflow, as text or as a Mermaid diagram."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.options import file_argument, overrides, plugin_dir_option, set_option

if TYPE_CHECKING:
    from nodegraph.graph import Graph, GraphNode, Wire
    from nodegraph.workflow import Workflow

_LONGEST = 60  # characters of a literal that a line of text shows


@click.command()
@file_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid"]),
    default="text",
    show_default=True,
    help="How it is drawn.",
)
@set_option
@plugin_dir_option
@verbose_option("With an unexpected failure, show where it came from.")
def show(
    file: Path, form: str, settings: Sequence[tuple[str, str]], plugin_dirs: Sequence[Path], verbose: bool
) -> None:
    """Show the graph of the workflow FILE.

    Its nodes stand in the order in which they run, each with the links and literals that it is given.
    """
    from nodegraph.engine import Engine
    from nodegraph.workflow import Workflow

    engine = Engine(cache_dir=None, plugin_dirs=plugin_dirs)
    warn_of_broken(engine.plugins)
    workflow = Workflow.load(file)
    graph = engine.check(workflow, overrides=overrides(settings))
    for line in as_mermaid(graph) if form == "mermaid" else as_text(workflow, graph):
        click.echo(line)


def as_text(workflow: Workflow, graph: Graph) -> Iterator[str]:
    """One line for each param, node and output; a node's links are written as in YAML."""
    yield f"{workflow.name}: {workflow.description}" if workflow.description else workflow.name
    if graph.params:
        yield "\nparams"
        width = max(map(len, graph.params))
        for name, value in graph.params.items():
            yield f"  {name.ljust(width)}  {_short(value)}"
    yield "\nnodes"
    width = max(map(len, graph.nodes), default=0)
    kinds = max((len(node.spec.name) for node in graph.nodes.values()), default=0)
    for name, node in graph.nodes.items():
        inputs = ", ".join(
            f"{port}: {_written(given)}" for port, given in node.inputs.items() if _is_said(node, port, given)
        )
        yield f"  {name.ljust(width)}  {node.spec.name.ljust(kinds)}  {inputs}".rstrip()
    yield "\noutputs"
    width = max(map(len, graph.outputs), default=0)
    for name, output in graph.outputs.items():
        saved = f"  -> {output.save}" if output.save else ""
        yield f"  {name.ljust(width)}  {_link(graph, output.wire)}{saved}"


def as_mermaid(graph: Graph) -> Iterator[str]:
    """A Mermaid flowchart: a box for each node, an arrow for each link labelled with the input that it feeds."""
    ids = {name: f"n{k}" for k, name in enumerate(graph.nodes)}
    yield "flowchart TD"
    for name, node in graph.nodes.items():
        yield f'    {ids[name]}["{_escaped(name)}<br/><i>{_escaped(node.spec.name)}</i>"]'
    for name, node in graph.nodes.items():
        for port, given in node.inputs.items():
            for wire in _wires(given):
                yield f'    {ids[wire.node]} -- "{_escaped(port)}" --> {ids[name]}'
    for k, (name, output) in enumerate(graph.outputs.items()):
        yield f'    {ids[output.wire.node]} --> o{k}(["{_escaped(name)}"])'


def _wires(given: Any) -> Iterator[Wire]:
    from nodegraph.graph import Many, Wire

    if isinstance(given, Wire):
        yield given
    elif isinstance(given, Many):
        for item in given.items:
            yield from _wires(item)


def _is_said(node: GraphNode, port: str, given: Any) -> bool:
    """Whether an input is worth showing: a link, or a literal that is not the default."""
    from nodegraph.graph import Value

    spec = node.spec.input(port)
    return not (isinstance(given, Value) and spec is not None and not spec.required and given.value == spec.default)


def _written(given: Any) -> str:
    from nodegraph.graph import Many, Wire

    if isinstance(given, Wire):
        return f"${given.node}" if given.port == "output" else f"${given.node}.{given.port}"
    if isinstance(given, Many):
        return f"[{', '.join(map(_written, given.items))}]"
    return _short(given.value)


def _link(graph: Graph, wire: Wire) -> str:
    return f"${wire.node}" if len(graph.nodes[wire.node].spec.outputs) == 1 else f"${wire.node}.{wire.port}"


def _short(value: Any) -> str:
    text = value.as_posix() if isinstance(value, Path) else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _escaped(text: str) -> str:
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
