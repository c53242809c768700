"""`nodegraph convert`: the tensors of a file as a .safetensors file, which needs no permission, without what is unused."""

from __future__ import annotations

from pathlib import Path

import click

from nodegraph.plugin_api import OutputError, Problem, WorkflowError, echo, replacing
from nodegraph_nodes.commands.help import WRONG, epilog


@click.command(
    epilog=epilog(
        "nodegraph convert model.ckpt model.safetensors",
        "nodegraph convert --keep-all model.safetensors copy.safetensors",
        status=("0 done", "1 NEW could not be written", WRONG),
    )
)
@click.argument("file", type=click.Path())
@click.argument("new", type=click.Path(path_type=Path))
@click.option("--keep-all", is_flag=True, help="Also write tensors that no program needs to run the model.")
def convert(file: str, new: Path, keep_all: bool) -> None:
    """Write a model file anew as .safetensors, without what is unused.

    FILE is a .ckpt, .pt, .pth, .bin or .safetensors file, hf://organisation/name/file, or a name that 'nodegraph models' lists. The
    code in a pickle is never run, and --allow-pickles is not needed. NEW must not exist.

    Of a model, what no program needs to run it is left out: moving averages, the training's schedule, what belongs to no part.
    Names that torch.compile or old programs changed are repaired. The command says what it did.
    """
    from nodegraph_diffusion.checkpoint import CheckpointError
    from nodegraph_diffusion.checkpoint import convert as write_safetensors
    from nodegraph_nodes.models.find import model_path

    if new.exists():
        raise click.UsageError(f"{new} exists already and stays as it is. Give another name or remove it.")
    try:
        path = model_path(file, Path.cwd(), None)
        if path.is_dir():
            raise CheckpointError(path, expected="a file", found="a folder", hint="Name one of the files in it.")
        with replacing(new) as temporary:
            done = write_safetensors(path, temporary, keep_all=keep_all)
    except CheckpointError as error:
        raise WorkflowError([Problem("E113", str(error).rstrip("."))]) from error
    except OSError as error:
        raise OutputError(
            f"[E211] cannot write {new}: {error.strerror or error}. Make it writable, or name another file"
        ) from error
    except ValueError as error:
        raise WorkflowError([Problem("E113", str(error).rstrip("."))]) from error
    echo(f"{new}: {_tensors(done.tensors)}, {new.stat().st_size / 1e6:,.1f} MB")
    if done.removed:
        example = f"{done.removed[0]!r}{', ...' if len(done.removed) > 1 else ''}"
        echo(f"  left out: {_tensors(len(done.removed))} that nothing uses ({example}), {done.removed_bytes / 1e6:,.1f} MB")
    for repair in done.repairs:
        echo(f"  repaired: {repair}")


def _tensors(count: int) -> str:
    return f"{count} {'tensor' if count == 1 else 'tensors'}"
