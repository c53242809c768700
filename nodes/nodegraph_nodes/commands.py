"""`nodegraph models`: what can be given to LoadModel, and to the nodes that take a part of a model alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from nodegraph import WorkflowError
from nodegraph.errors import Problem
from nodegraph_nodes.load import BUILTIN, builtin_models, located, resource
from nodegraph_nodes.refusal import refusal

if TYPE_CHECKING:
    from nodegraph_nodes.load import Found


@click.command()
@click.argument("model", nargs=-1)
def models(model: tuple[str, ...]) -> None:
    """List the built-in models, or say what MODEL (a file, a folder) is. No weight is read."""
    from nodegraph_diffusion.checkpoint import CheckpointError, identify

    for name in model or [BUILTIN + known for known in builtin_models()]:
        try:
            found = identify(located(name, Path.cwd()))
        except CheckpointError as error:
            raise WorkflowError([Problem("E113", str(refusal(error)).rstrip("."))]) from error
        except (OSError, ValueError) as error:
            raise WorkflowError([Problem("E113", str(error).rstrip("."))]) from error
        files = resource(found).files
        size = sum(file.stat().st_size for file in files.values()) / 1e6
        click.echo(f"{name}: {_described(found)}, {size:,.1f} MB in {len(files)} {'file' if len(files) == 1 else 'files'}")
        click.echo(f"  {_reason(found)}")


def _described(found: Found) -> str:
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


def _reason(found: Found) -> str:
    from nodegraph_diffusion.checkpoint import TextEncoders
    from nodegraph_diffusion.checkpoint.model import NAMES

    return f"read as {NAMES[found.kind]}, {found.reason}" if isinstance(found, TextEncoders) else found.reason
