"""Options of the command line that belong to this pack. Nodes and the backend read them from the environment."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from nodegraph_diffusion.checkpoint.files.pickle_permission import PICKLES_VARIABLE
from nodegraph_nodes.models.backend import DECODER_VARIABLE


def plugin_dir_option() -> click.Option:
    """The option --plugin-dir of commands that load plugins."""
    return click.Option(
        ["--plugin-dir", "plugin_dirs"],
        type=click.Path(path_type=Path),
        multiple=True,
        metavar="DIR",
        help="Also load the plugins in this folder. May be repeated.  [env var: NODEGRAPH_PLUGIN_DIR]",
    )


def pickles_option() -> click.Option:
    """The option --allow-pickles: the permission for nodes to open pickles."""
    return click.Option(
        ["--allow-pickles"],
        is_flag=True,
        expose_value=False,
        callback=_allow_pickles,
        help=f"Let nodes open pickles (.ckpt, .pt, .pth, .bin). The code in them is never run.  [env var: {PICKLES_VARIABLE}=1]",
    )


def preview_decoder_option() -> click.Option:
    """The option --preview-decoder of `nodegraph run`."""
    return PreviewDecoder(
        ["--preview-decoder"],
        type=click.Path(),
        metavar="FILE",
        expose_value=False,
        callback=_set_decoder,
        help=f"With --preview: decode latents with this TAESD decoder, for sharper pictures.  [env var: {DECODER_VARIABLE}]",
    )


class PreviewDecoder(click.Option):
    """An option that is an error without --preview."""

    def handle_parse_result(self, ctx: click.Context, opts: Mapping[str, Any], args: list[str]) -> tuple[Any, list[str]]:
        if self.name in opts and opts.get("preview") is None:
            raise click.UsageError("--preview-decoder has no effect without --preview. Add --preview DIR.", ctx)
        return super().handle_parse_result(ctx, opts, args)


def _allow_pickles(ctx: click.Context, param: click.Parameter, allowed: bool) -> None:
    if allowed:
        _set_variable(ctx, PICKLES_VARIABLE, "1")


def _set_decoder(ctx: click.Context, param: click.Parameter, file: str | None) -> None:
    if file is not None:
        _set_variable(ctx, DECODER_VARIABLE, file)


def _set_variable(ctx: click.Context, name: str, value: str) -> None:
    """Set a variable of the environment until the command ends."""
    before = os.environ.get(name)
    os.environ[name] = value

    def restore() -> None:
        if before is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = before

    ctx.call_on_close(restore)
