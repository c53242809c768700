"""`nodegraph export`: a workflow as a graph of another program."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from nodegraph.cli.exchange.written import output_option, overwrite_file_option, print_notes, refuse_to_replace, write_text
from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.help import DONE, WRONG_WORKFLOW, epilog
from nodegraph.cli.options import base_option, file_argument, json_option, overrides, plugin_dir_option, preset_option, set_option
from nodegraph.cli.plugin_options import plugins_of
from nodegraph.errors import Problem, WorkflowError
from nodegraph.terminal import echo, echo_json


@click.command(
    name="export",
    epilog=epilog(
        "nodegraph export workflow.yaml --to comfyui -o graph.json",
        "nodegraph export workflow.yaml --to comfyui --form editor",
        status=(DONE, "1 the file could not be written", WRONG_WORKFLOW),
    ),
)
@file_argument
@click.option("--to", "program", metavar="NAME", required=True, help="The program; 'nodegraph exporters' lists them.")
@click.option("--form", default="", metavar="NAME", help="One of the forms in which the program reads graphs.")
@output_option("GRAPH")
@overwrite_file_option
@set_option
@preset_option
@base_option
@plugin_dir_option
@json_option
@verbose_option("Show a traceback if nodegraph itself fails.")
@click.pass_context
def export_graph(
    ctx: click.Context,
    file: Path,
    program: str,
    form: str,
    output: Path | None,
    overwrite: bool,
    settings: Sequence[tuple[str, str]],
    presets: Sequence[Path],
    bases: Sequence[Path],
    plugin_dirs: Sequence[Path],
    as_json: bool,
    verbose: bool,
) -> None:
    """Write the workflow FILE as a graph of another program.

    What that program cannot express is an error that names all of it.
    """
    from nodegraph.engine import Engine
    from nodegraph.graph.load import load_workflow
    from nodegraph.run.lock.facts import plain_nodes
    from nodegraph.workflow.definitions import Link
    from nodegraph.workflow.exchange import ExportRequest

    plugins = plugins_of(ctx, plugin_dirs, with_code=False)
    warn_of_broken(plugins, fatal=False)
    exporters = plugins.registries["exporters"]
    if program not in exporters:
        raise WorkflowError([Problem("E122", exporters.unknown(program), hint=exporters.suggest(program))])
    refuse_to_replace(output, overwrite=overwrite)
    changes = overrides(settings, presets)
    engine = Engine(cache_dir=None, plugins=plugins)
    graph = engine.check(load_workflow(file, plugins, changes, bases), overrides=changes)
    request = ExportRequest(
        name=graph.workflow,
        nodes=plain_nodes(graph),
        outputs={name: (Link(found.link.node, found.link.port), found.save) for name, found in graph.outputs.items()},
        form=form,
    )
    exported = exporters.get(program).value(request)
    if output is not None:
        write_text(output, exported.text)
    if as_json:
        written = {"file": str(output)} if output is not None else {"graph": exported.text}
        echo_json(json.dumps({**written, "notes": [*exported.notes]}))
    else:
        echo(exported.text.rstrip("\n") if output is None else str(output))
    print_notes(exported.notes)
