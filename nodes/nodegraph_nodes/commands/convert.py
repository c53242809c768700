"""`nodegraph convert`: the tensors of a pickle as a .safetensors file, which needs no permission."""

from __future__ import annotations

from pathlib import Path

import click

from nodegraph.plugin_api import OutputError, Problem, WorkflowError, echo, replacing
from nodegraph_diffusion.checkpoint import CheckpointError
from nodegraph_diffusion.checkpoint import convert as write_safetensors
from nodegraph_nodes.commands.help import WRONG, epilog


@click.command(
    epilog=epilog("nodegraph convert model.ckpt model.safetensors", status=("0 done", "1 NEW could not be written", WRONG))
)
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
def convert(file: Path, new: Path) -> None:
    """Write the tensors of a pickle to a .safetensors file.

    FILE is a .ckpt, .pt, .pth or .bin file. The code in it is never run, and --allow-pickles is not needed. NEW must not exist.
    """
    if new.exists():
        raise click.UsageError(f"{new} exists already and stays as it is. Give another name or remove it.")
    try:
        with replacing(new) as temporary:
            count = write_safetensors(file, temporary)
    except CheckpointError as error:
        raise WorkflowError([Problem("E113", str(error).rstrip("."))]) from error
    except OSError as error:
        raise OutputError(
            f"[E211] cannot write {new}: {error.strerror or error}. Make it writable, or name another file"
        ) from error
    echo(f"{new}: {count} {'tensor' if count == 1 else 'tensors'}, {new.stat().st_size / 1e6:,.1f} MB")
