"""`nodegraph models`: what can be given to LoadModel. `nodegraph convert`: a file in the format that needs no permission."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nodegraph import WorkflowError
from nodegraph.cli.options import pickles_option
from nodegraph.errors import OutputError, Problem
from nodegraph.files import replacing
from nodegraph_diffusion.checkpoint import CheckpointError
from nodegraph_diffusion.checkpoint.write.convert import convert as write_safetensors
from nodegraph_nodes.models.errors import file_error_message
from nodegraph_nodes.models.find import BUILTIN, builtin_models, model_path, model_resource

if TYPE_CHECKING:
    from nodegraph_nodes.models.find import Model


@click.command()
@click.argument("model", nargs=-1)
@pickles_option
def models(model: tuple[str, ...]) -> None:
    """List the built-in models, or say what MODEL is.

    MODEL is a file, a folder or hf://organisation/name. No weight is read.
    """
    from nodegraph_diffusion.checkpoint import CheckpointError, identify

    for name in model or [BUILTIN + known for known in builtin_models()]:
        try:
            found = identify(model_path(name, Path.cwd()))
        except CheckpointError as error:
            raise WorkflowError([Problem("E113", file_error_message(error).rstrip("."))]) from error
        except (OSError, ValueError) as error:
            raise WorkflowError([Problem("E113", str(error).rstrip("."))]) from error
        files = model_resource(found).files
        size = sum(file.stat().st_size for file in files.values()) / 1e6
        click.echo(f"{name}: {_described(found)}, {size:,.1f} MB in {len(files)} {'file' if len(files) == 1 else 'files'}")
        click.echo(f"  {_reason(found)}")


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("new", type=click.Path(path_type=Path))
def convert(file: Path, new: Path) -> None:
    """Write the tensors of a pickle to a .safetensors file.

    FILE is a .ckpt, .pt, .pth or .bin. It is read without running what is in it; to name it here is to allow that.
    NEW must not be there yet.
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


def _described(found: Model) -> str:
    from nodegraph_diffusion.checkpoint import Checkpoint, TextEncoders, UNetPart

    if isinstance(found, Checkpoint):
        native = f"{found.sample_size}x{found.sample_size} pixels"
        return f"{found.kind}, {found.layout} layout, {native}, {found.schedule.prediction} prediction"
    if isinstance(found, TextEncoders):
        weights = found.parts[0].weights
        which = "a text encoder alone" if len(found.parts) == 1 else "two text encoders alone"
        how = ", or for SDXL as its text_encoder_2" if weights.part == "text_encoder_2" else ""
        return f"{which}: give it to LoadTextEncoder{how}; {found.kind}, {weights.naming} names"
    if isinstance(found, UNetPart):
        told = f"{found.schedule.prediction} prediction"
        return f"a UNet alone: give it to LoadUNet; {found.kind}, {found.weights.naming} names, {told}"
    return f"an autoencoder alone: give it to LoadVAE; {found.weights.naming} names"


def _reason(found: Model) -> str:
    from nodegraph_diffusion.checkpoint import TextEncoders
    from nodegraph_diffusion.checkpoint.detect.model import NAMES

    return f"read as {NAMES[found.kind]}, {found.reason}" if isinstance(found, TextEncoders) else found.reason
