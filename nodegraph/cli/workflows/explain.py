"""`nodegraph explain`: what would run, and why."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from nodegraph.cli.failures import verbose_option, warn_of_broken
from nodegraph.cli.options import (
    cache_dir_option,
    file_argument,
    json_option,
    overrides,
    pickles_option,
    plugin_dir_option,
    set_option,
)
from nodegraph.cli.tables import aligned

_SAID = {"run": "would run", "cached": "is cached", "pruned": "is not needed"}


@click.command()
@file_argument
@set_option
@click.option("--target", "targets", multiple=True, metavar="NODE", help="Explain this node instead of the workflow's outputs.")
@cache_dir_option
@click.option("--device", default="auto", show_default=True, metavar="D", help="As for run.")
@click.option("--dtype", default="auto", show_default=True, metavar="T", help="As for run.")
@pickles_option
@plugin_dir_option
@json_option
@verbose_option("With an unexpected failure, show where it came from.")
def explain(
    file: Path,
    settings: Sequence[tuple[str, str]],
    targets: Sequence[str],
    cache_dir: Path | None,
    device: str,
    dtype: str,
    plugin_dirs: Sequence[Path],
    as_json: bool,
    verbose: bool,
) -> None:
    """Say of each node in FILE whether it would run.

    And why: which input made the miss. A node below one that would run may still be found, if what it is given turns out to
    be what it was.
    """
    from nodegraph.engine import Engine
    from nodegraph.workflow.workflow import Workflow

    where: dict[str, Any] = {} if cache_dir is None else {"cache_dir": cache_dir}
    engine = Engine(device=device, dtype=dtype, plugin_dirs=plugin_dirs, **where)
    warn_of_broken(engine.plugins, fatal=False)
    plan = engine.plan(Workflow.load(file), overrides=overrides(settings), targets=targets)
    explained = engine.explain(plan)
    if as_json:
        click.echo(json.dumps({e.node: {"action": e.action, "reason": e.reason or None} for e in explained}))
        return
    for line in aligned([(e.node, _SAID[e.action], e.reason) for e in explained]):
        click.echo(line)
