"""`nodegraph models`: what can be given to LoadModel. `nodegraph convert`: a file in the format that needs no permission."""

from __future__ import annotations

from pathlib import Path

import click

from nodegraph import WorkflowError
from nodegraph.cli.options import pickles_option
from nodegraph.errors import OutputError, Problem
from nodegraph.files import replacing
from nodegraph_diffusion.checkpoint import CheckpointError
from nodegraph_diffusion.checkpoint.convert import convert as write_safetensors
from nodegraph_nodes.load import BUILTIN, builtin_models, find_model


@click.command()
@click.argument("model", nargs=-1)
@pickles_option
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


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
def convert(file: Path, new: Path) -> None:
    """Write the tensors of FILE, a pickle (.ckpt, .pt, .bin), to NEW, a .safetensors file.

    FILE is read without running what is in it; to name it here is to allow that. NEW must not be there yet.
    """
    if new.exists():
        raise click.UsageError(f"{new} is there already, and was left as it is. Give another name, or remove it.")
    try:
        with replacing(new) as temporary:
            count = write_safetensors(file, temporary)
    except CheckpointError as error:
        raise WorkflowError([Problem("E113", str(error).rstrip("."))]) from error
    except OSError as error:
        raise OutputError(
            f"[E211] cannot write {new}: {error.strerror or error}. Make it writable, or name another file"
        ) from error
    click.echo(f"{new}: {count} {'tensor' if count == 1 else 'tensors'}, {new.stat().st_size / 1e6:,.1f} MB")
