"""`nodegraph show`: the graph of a workflow, as text or as a Mermaid diagram."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.options import file_argument, overrides, plugin_dir_option, set_option
from nodegraph.cli.tables import aligned
from nodegraph.text import shortened

if TYPE_CHECKING:
    from nodegraph.graph.graph import Graph
    from nodegraph.workflow.definitions import Link, NodeDef


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
def show(file: Path, form: str, settings: Sequence[tuple[str, str]], plugin_dirs: Sequence[Path], verbose: bool) -> None:
    """Show the graph of the workflow FILE.

    Its nodes stand in the order in which they run, each with the links and literals that it is given.
    """
    from nodegraph.engine import Engine
    from nodegraph.workflow.workflow import Workflow

    engine = Engine(cache_dir=None, plugin_dirs=plugin_dirs)
    warn_of_broken(engine.plugins, fatal=False)
    graph = engine.check(Workflow.load(file), overrides=overrides(settings))
    for line in as_mermaid(graph) if form == "mermaid" else as_text(graph):
        click.echo(line)


def as_text(graph: Graph) -> Iterator[str]:
    """One line for each param, node and output; a node's inputs stand as the workflow says them."""
    said = graph.resolved
    yield f"{said.name}: {said.description}" if said.description else said.name
    yield from _section("params", [(name, _short(value)) for name, value in graph.params.items()])
    nodes = [(name, graph.nodes[name].spec.name, _inputs(said.nodes[name])) for name in graph.nodes]
    yield from _section("nodes", nodes)
    outputs = [(o.name, str(said.outputs[o.name].link), f"-> {o.save}" if o.save else "") for o in graph.outputs.values()]
    yield from _section("outputs", outputs)


def as_mermaid(graph: Graph) -> Iterator[str]:
    """A Mermaid flowchart: a box for each node, an arrow for each link labelled with the input that it feeds."""
    ids = {name: f"n{k}" for k, name in enumerate(graph.nodes)}
    yield "flowchart TD"
    for name, node in graph.nodes.items():
        yield f'    {ids[name]}["{_escaped(name)}<br/><i>{_escaped(node.spec.name)}</i>"]'
    for name in graph.nodes:
        for port, value in graph.resolved.nodes[name].inputs.items():
            for link in _links(value):
                yield f'    {ids[link.node]} -- "{_escaped(port)}" --> {ids[name]}'
    for k, (name, output) in enumerate(graph.outputs.items()):
        yield f'    {ids[output.link.node]} --> o{k}(["{_escaped(name)}"])'


def _section(title: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A title and aligned rows below it; nothing where there are none."""
    if rows:
        yield f"\n{title}"
        yield from (f"  {line}" for line in aligned(rows))


def _inputs(node: NodeDef) -> str:
    return ", ".join(f"{name}: {_short(value)}" for name, value in node.inputs.items())


def _short(value: Any) -> str:
    from nodegraph.workflow.scalars import as_yaml

    return shortened(as_yaml(value))


def _links(value: Any) -> Iterator[Link]:
    from nodegraph.workflow.definitions import Link

    if isinstance(value, Link):
        yield value
    elif isinstance(value, list):
        for item in value:
            yield from _links(item)


def _escaped(text: str) -> str:
    return text.replace("&", "#amp;").replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;")
