"""`nodegraph show`: the graph of a workflow, as text, as a Mermaid diagram, or as SVG."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.help import DONE, WRONG_WORKFLOW, epilog
from nodegraph.cli.options import (
    base_option,
    file_argument,
    inline_option,
    json_option,
    overrides,
    plugin_dir_option,
    preset_option,
    set_option,
)
from nodegraph.cli.plugin_options import ExtensibleCommand, plugins_of
from nodegraph.cli.tables import aligned, plain_json
from nodegraph.cli.workflows.made import how_made, made_text
from nodegraph.cli.workflows.notes import print_not_fetched
from nodegraph.cli.workflows.resolved import resolved_object, resolved_text
from nodegraph.terminal import echo, echo_json
from nodegraph.text import as_file_name, shortened

if TYPE_CHECKING:
    from nodegraph.graph.graph import Graph
    from nodegraph.workflow.definitions import NodeDef
    from nodegraph.workflow.diagram.diagram import Diagram


@click.command(
    cls=ExtensibleCommand,
    with_code=False,
    epilog=epilog(
        "nodegraph show workflow.yaml",
        "nodegraph show workflow.yaml --json",
        "nodegraph show workflow.yaml --format svg > graph.svg",
        status=(DONE, WRONG_WORKFLOW),
    ),
)
@file_argument
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "svg"]),
    default="text",
    show_default=True,
    help="Print the graph as text, as a Mermaid flowchart, or as a drawing in SVG.",
)
@click.option("--resolved", is_flag=True, help="Show every value as it results, also defaults, and where it came from.")
@set_option
@preset_option
@base_option
@plugin_dir_option
@inline_option
@click.option("--open", "opened", is_flag=True, help="Open FILE, or a drawing of the graph, in the system's viewer.")
@json_option
@verbose_option("Show a traceback if nodegraph itself fails.")
@click.pass_context
def show(
    ctx: click.Context,
    file: Path,
    form: str,
    resolved: bool,
    settings: Sequence[tuple[str, str]],
    presets: Sequence[Path],
    bases: Sequence[Path],
    plugin_dirs: Sequence[Path],
    inline: str | None,
    opened: bool,
    as_json: bool,
    verbose: bool,
) -> None:
    """Show the graph of the workflow FILE.

    FILE may be '-' for standard input. Nodes come in the order in which they run, each with its links and literals. If FILE is an
    output, this shows how it was made, also if another program did.
    """
    from nodegraph.cli.inline.outputs import NEVER, inline_outputs
    from nodegraph.cli.viewer import find_viewer
    from nodegraph.engine import Engine
    from nodegraph.graph.load import load_workflow
    from nodegraph.settings import load_inline

    viewer = find_viewer() if opened else None
    engine = Engine(cache_dir=None, plugins=plugins_of(ctx, plugin_dirs, with_code=False))
    warn_of_broken(engine.plugins, fatal=False)
    if form == "text" and not (resolved or settings or presets) and (made := how_made(file, engine.plugins)):
        echo_json(json.dumps(made)) if as_json else echo(made_text(file, made))
        with inline_outputs(NEVER if as_json else load_inline(inline), engine.plugins.backend) as show_inline:
            show_inline(file)
        if viewer is not None:
            viewer.open([file])
        return
    changes = overrides(settings, presets)
    graph = engine.check(load_workflow(file, engine.plugins, changes, bases), overrides=changes)
    if resolved and form != "text":
        raise click.UsageError("--resolved prints text or, with --json, JSON. Leave out --format.")
    if viewer is not None:
        viewer.open([_drawing(graph)])
    if as_json:
        echo_json(json.dumps(resolved_object(graph) if resolved else as_object(graph)))
        return
    print_not_fetched(graph)
    drawn = {"text": resolved_text if resolved else as_text, "mermaid": _as_mermaid, "svg": _as_svg}
    for line in drawn[form](graph):
        echo(line)


def as_text(graph: Graph) -> Iterator[str]:
    """One line for each param, node and output; a node's inputs are written as in the workflow."""
    workflow, definitions = graph.resolved, _definitions(graph)
    yield f"{workflow.name}: {workflow.description}" if workflow.description else workflow.name
    yield from _section("params", [(name, _short(value)) for name, value in graph.params.items()])
    nodes = [(name, graph.nodes[name].spec.name, _inputs(definitions[name])) for name in graph.nodes]
    yield from _section("nodes", nodes)
    first = {output.name: output for output in [*graph.outputs.values()][::-1]}
    listed = [first[name] for name in workflow.outputs if name in first]
    outputs = [(o.name, str(workflow.outputs[o.name].link), _saved(o.save, o.options)) for o in listed]
    yield from _section("outputs", outputs)


def as_object(graph: Graph) -> dict[str, Any]:
    """The graph for `--json`: links are text such as `$node.port`; a node has only the inputs that the workflow gives it."""
    from nodegraph.workflow.definitions import unwrapped, written_save

    workflow, definitions = graph.resolved, _definitions(graph)
    return {
        "workflow": workflow.name,
        "description": workflow.description,
        "params": {name: plain_json(value) for name, value in graph.params.items()},
        "nodes": {
            name: {
                "use": node.spec.name,
                "inputs": {input: plain_json(unwrapped(value)) for input, value in definitions[name].inputs.items()},
            }
            for name, node in graph.nodes.items()
        },
        "outputs": {
            name: {"from": f"${output.link.node}.{output.link.port}", "save": written_save(output.save, output.options)}
            for name, output in graph.outputs.items()
            if output.index is None
        }
        | {name: _list_output(graph, name) for name in graph.lists},
        "not_fetched": [asdict(missing) for missing in graph.not_fetched],
    }


def _diagram(graph: Graph) -> Diagram:
    """The nodes as they run, and the outputs."""
    from nodegraph.workflow.diagram.diagram import diagram_of

    definitions = _definitions(graph)
    return diagram_of(
        {name: definitions[name] for name in graph.nodes}, [(name, output.link.node) for name, output in graph.outputs.items()]
    )


def _as_mermaid(graph: Graph) -> Iterator[str]:
    from nodegraph.workflow.diagram.mermaid import as_mermaid

    return as_mermaid(_diagram(graph))


def _as_svg(graph: Graph) -> Iterator[str]:
    from nodegraph.workflow.diagram.svg import as_svg

    yield as_svg(_diagram(graph), graph.resolved.name)


def _drawing(graph: Graph) -> Path:
    """A file with the drawing of a graph, which stays for the program that shows it."""
    import tempfile

    file = Path(tempfile.mkdtemp(prefix="nodegraph-")) / f"{as_file_name(graph.workflow)}.svg"
    file.write_text("\n".join(_as_svg(graph)), encoding="utf-8")
    return file


def _list_output(graph: Graph, name: str) -> dict[str, Any]:
    """An output that is a list, for `--json`."""
    from nodegraph.workflow.definitions import written_save

    output, items = graph.resolved.outputs[name], [item for item in graph.outputs.values() if item.name == name]
    save = written_save(output.save, items[0].options if items else output.options)
    return {"from": [f"${item.link.node}.{item.link.port}" for item in items], "save": save}


def _definitions(graph: Graph) -> Mapping[str, NodeDef]:
    """The nodes as they are written, those inside composed ones with their full names."""
    return graph.resolved.nodes if graph.composed is None else graph.composed.nodes


def _section(title: str, rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A title and aligned rows below it; nothing if there are no rows."""
    if rows:
        yield f"\n{title}"
        yield from (f"  {line}" for line in aligned(rows))


def _inputs(node: NodeDef) -> str:
    from nodegraph.workflow.definitions import unwrapped

    return ", ".join(f"{name}: {_short(unwrapped(value))}" for name, value in node.inputs.items())


def _saved(save: str | None, options: Mapping[str, Any]) -> str:
    """The file of an output with the options of its format, such as `-> {seed}.txt (option: 90)`."""
    listed = ", ".join(f"{name}: {_short(value)}" for name, value in options.items())
    return (f"-> {save}" if save else "") + (f" ({listed})" if listed else "")


def _short(value: Any) -> str:
    from nodegraph.workflow.scalars import as_yaml

    return shortened(as_yaml(value))
