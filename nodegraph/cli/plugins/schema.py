"""`nodegraph schema`: a JSON Schema with which editors complete and check workflow files."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from nodegraph.cli.failures import warn_of_broken
from nodegraph.cli.help import epilog
from nodegraph.cli.options import plugin_dir_option
from nodegraph.terminal import echo_json


@click.command(epilog=epilog("nodegraph schema > workflow.schema.json"))
@plugin_dir_option
def schema(plugin_dirs: Sequence[Path]) -> None:
    """Print a JSON Schema of workflow files.

    It contains every installed node type. Save it to a file and begin a workflow with the line '# yaml-language-server:
    $schema=FILE': an editor then completes node types and inputs.
    """
    from nodegraph.plugins.manager import load_plugins
    from nodegraph.workflow.editors.json_schema import workflow_schema

    plugins = load_plugins(plugin_dirs, with_code=False)
    warn_of_broken(plugins)
    echo_json(json.dumps(workflow_schema(plugins), indent=2, ensure_ascii=False))
