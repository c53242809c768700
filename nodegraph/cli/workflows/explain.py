"""`nodegraph explain`: which nodes would run, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.help import DONE, WRONG_WORKFLOW, epilog
from nodegraph.cli.options import (
    base_option,
    cache_dir_option,
    cache_remote_option,
    complete,
    device_option,
    dtype_option,
    file_argument,
    json_option,
    overrides,
    plugin_dir_option,
    preset_option,
    set_option,
)
from nodegraph.cli.plugin_options import ExtensibleCommand, plugins_of
from nodegraph.cli.tables import aligned
from nodegraph.cli.workflows.notes import print_not_fetched
from nodegraph.terminal import echo, echo_json

_ACTIONS = {"run": "would run", "cached": "is cached", "pruned": "is not needed", "undecided": "is not known yet"}


@click.command(
    cls=ExtensibleCommand,
    epilog=epilog(
        "nodegraph explain workflow.yaml",
        "nodegraph explain workflow.yaml --set seed=8 --json",
        status=(DONE, WRONG_WORKFLOW),
    ),
)
@file_argument
@set_option
@preset_option
@base_option
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NODE",
    shell_complete=complete("targets"),
    help="Explain what this node, or one of its outputs (node.port), needs instead of the workflow's outputs. May be repeated.",
)
@cache_dir_option
@cache_remote_option
@device_option
@dtype_option
@plugin_dir_option
@json_option
@verbose_option("Show a traceback if nodegraph itself fails.")
@click.pass_context
def explain(
    ctx: click.Context,
    file: Path,
    settings: Sequence[tuple[str, str]],
    presets: Sequence[Path],
    bases: Sequence[Path],
    targets: Sequence[str],
    cache_dir: Path | None,
    device: str,
    dtype: str,
    plugin_dirs: Sequence[Path],
    as_json: bool,
    verbose: bool,
) -> None:
    """Show which nodes in FILE would run, and why.

    FILE may be '-' for standard input. No node runs, and the network is not used. The reason names the input that changed. A node
    that depends on one that would run may still turn out to be cached, if its inputs have the same values as before.
    """
    from nodegraph.engine import Engine
    from nodegraph.graph.load import load_workflow

    cache: dict[str, Any] = {} if cache_dir is None else {"cache_dir": cache_dir}
    engine = Engine(device=device, dtype=dtype, plugins=plugins_of(ctx, plugin_dirs), **cache)
    warn_of_broken(engine.plugins, fatal=False)
    changes = overrides(settings, presets)
    plan = engine.plan(load_workflow(file, engine.plugins, changes, bases), overrides=changes, targets=targets)
    explained = engine.explain(plan)
    if as_json:
        messages = {missing.node: {"not_fetched": missing.message} for missing in plan.graph.not_fetched}
        nodes = {e.node: {"action": e.action, "reason": e.reason or None, **messages.get(e.node, {})} for e in explained}
        echo_json(json.dumps(nodes))
        return
    print_not_fetched(plan.graph)
    for line in aligned([(e.node, _ACTIONS[e.action], e.reason) for e in explained]):
        echo(line)
