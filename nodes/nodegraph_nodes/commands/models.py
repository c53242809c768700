"""`nodegraph models`: the built-in models, and what a model file contains."""

from __future__ import annotations

import click

from nodegraph_nodes.commands.help import epilog
from nodegraph_nodes.commands.options import pickles_option


@click.command(
    params=[pickles_option()],
    epilog=epilog("nodegraph models --json", "nodegraph models model.safetensors", "nodegraph models dreamshaper_8"),
)
@click.argument("model", nargs=-1)
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
def models(model: tuple[str, ...], as_json: bool) -> None:
    """List the built-in models and yours, or describe each MODEL.

    MODEL is a file, a folder, builtin:NAME, hf://organisation/name, or a name from the list. No weights are read. The description
    has the kind of the model, its layout, its native size, its size on disk, and how the kind was detected.

    Your folders are those of 'dirs' in [models] of the config file, or of NODEGRAPH_MODELS. The list has models, LoRAs,
    ControlNets, VAEs, embeddings, upscalers and others, each with its family, dtype and size, or with the reason why it cannot be
    loaded.
    """
    from nodegraph_nodes.commands.model_listing import list_models, show_models

    if model:
        show_models(model, as_json=as_json)
    else:
        list_models(as_json=as_json)
