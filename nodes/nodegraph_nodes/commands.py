"""`nodegraph models`: what can be given to LoadModel."""

from __future__ import annotations

from pathlib import Path

import click

from nodegraph import WorkflowError
from nodegraph.errors import Problem
from nodegraph_nodes.load import BUILTIN, builtin_models, find_model


@click.command()
@click.argument("model", nargs=-1)
def models(model: tuple[str, ...]) -> None:
    """List the built-in models, or say what MODEL (a file, a folder) is. No weight is read."""
    for name in model or [BUILTIN + known for known in builtin_models()]:
        try:
            checkpoint, files = find_model(name, Path.cwd())
        except (OSError, ValueError) as error:
            raise WorkflowError([Problem("E113", str(error).rstrip("."))]) from error
        size = sum(file.stat().st_size for file in files.values()) / 1e6
        click.echo(
            f"{name}: {checkpoint.kind}, {checkpoint.layout} layout, {checkpoint.sample_size}x{checkpoint.sample_size} pixels, "
            f"{checkpoint.schedule.prediction} prediction, {size:,.1f} MB in {len(files)} {'file' if len(files) == 1 else 'files'}"
        )
        click.echo(f"  {checkpoint.reason}")
