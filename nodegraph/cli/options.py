"""Options that several commands take."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from nodegraph.settings import PICKLES_VARIABLE

if TYPE_CHECKING:
    from nodegraph.graph.overrides import Override

Option: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

file_argument: Option = click.argument("file", type=click.Path(path_type=Path))

plugin_dir_option: Option = click.option(
    "--plugin-dir",
    "plugin_dirs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Load the plugins in this folder, too; may be repeated. Also: NODEGRAPH_PLUGIN_DIR.",
)

cache_dir_option: Option = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    envvar="NODEGRAPH_CACHE_DIR",
    metavar="DIR",
    help="Where results are kept; by default in the user's cache folder. Also: NODEGRAPH_CACHE_DIR.",
)
cache_size_option: Option = click.option(
    "--cache-size",
    envvar="NODEGRAPH_CACHE_SIZE",
    metavar="SIZE",
    help='How much is kept, such as "50 GB" or "unlimited"; 20 GB by default. Also: NODEGRAPH_CACHE_SIZE.',
)
json_option: Option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _allow_pickles(ctx: click.Context, param: click.Parameter, allowed: bool) -> None:
    """Say it in the environment, where nodes look, until the command ends."""
    before = os.environ.get(PICKLES_VARIABLE)
    if not allowed or before == "1":
        return
    os.environ[PICKLES_VARIABLE] = "1"
    ctx.call_on_close(lambda: os.environ.update({PICKLES_VARIABLE: before or ""}))


pickles_option: Option = click.option(
    "--allow-pickles",
    is_flag=True,
    expose_value=False,
    callback=_allow_pickles,
    help=f"Let nodes open pickles (.ckpt, .pt, .bin), without running what is in them. Also: {PICKLES_VARIABLE}=1.",
)


def _split(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> list[tuple[str, str]]:
    pairs = []
    for text in values:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise click.BadParameter(
                f"expected name=value or node.input=value, found '{text}'. For example: --set seed=7",
                ctx=ctx,
                param=param,
            )
        pairs.append((name.strip(), value))
    return pairs


set_option: Option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_split,
    help="Give a param (name=value) or an input of a node (node.input=value) another value; may be repeated.",
)


def overrides(settings: Sequence[tuple[str, str]]) -> list[Override]:
    """What `--set` said, as the engine takes it: text, typed by its port; paths start from the current directory."""
    from nodegraph.graph.overrides import Override

    return [Override(name=name, value=value, text=True, base=Path.cwd()) for name, value in settings]
