"""Options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import click

from nodegraph.settings.names import INLINE, INLINE_VARIABLE

if TYPE_CHECKING:
    from nodegraph.graph.overrides import Override

Option: TypeAlias = Callable[[Callable[..., Any]], Callable[..., Any]]

Completion: TypeAlias = Callable[[click.Context, click.Parameter, str], Any]


def complete(function: str) -> Completion:
    """Complete a value with a function of `nodegraph.cli.completion`, which is imported when a shell asks."""

    def values(ctx: click.Context, param: click.Parameter, incomplete: str) -> Any:
        from nodegraph.cli import completion

        return getattr(completion, function)(ctx, incomplete)

    return values


def _use_project(ctx: click.Context, param: click.Parameter, file: Path | None) -> Path | None:
    """Until the command ends, the settings of the project count that the workflow `file` belongs to."""
    from nodegraph.settings import NO_PROJECT, PROJECT_VARIABLE, nearest_project

    if file is not None and file.exists() and not os.environ.get(PROJECT_VARIABLE):
        os.environ[PROJECT_VARIABLE] = str(nearest_project(file.parent) or NO_PROJECT)
        ctx.call_on_close(lambda: os.environ.pop(PROJECT_VARIABLE, None))
    return file


file_argument: Option = click.argument(
    "file", type=click.Path(path_type=Path), shell_complete=complete("workflows"), callback=_use_project
)
nearest_file_argument: Option = click.argument(
    "file", type=click.Path(path_type=Path), required=False, shell_complete=complete("workflows"), callback=_use_project
)
"""A workflow that only says which project is meant."""

plugin_dir_option: Option = click.option(
    "--plugin-dir",
    "plugin_dirs",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="Also load the plugins in this folder. May be repeated.  [env var: NODEGRAPH_PLUGIN_DIR]",
)
cache_dir_option: Option = click.option(
    "--cache-dir",
    type=click.Path(path_type=Path),
    envvar="NODEGRAPH_CACHE_DIR",
    show_envvar=True,
    show_default="the user's cache folder",
    metavar="DIR",
    help="Use this cache folder.",
)
cache_size_option: Option = click.option(
    "--cache-size",
    envvar="NODEGRAPH_CACHE_SIZE",
    show_envvar=True,
    show_default="20 GB",
    metavar="SIZE",
    help='Keep at most this much in the cache, such as "50 GB" or "unlimited".',
)


def _use_remote(ctx: click.Context, param: click.Parameter, url: str | None) -> None:
    """Until the command ends, this shared store counts."""
    from nodegraph.settings import REMOTE_VARIABLE, load_remote

    if url is not None:
        load_remote(url)  # raises SettingsError
        before = os.environ.get(REMOTE_VARIABLE)
        os.environ[REMOTE_VARIABLE] = url
        ctx.call_on_close(lambda: _set_variable(REMOTE_VARIABLE, before))


def _set_variable(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


cache_remote_option: Option = click.option(
    "--cache-remote",
    metavar="URL",
    callback=_use_remote,
    expose_value=False,
    help='Share results with other machines in this store, such as s3://bucket/prefix. "none": share nothing.  '
    "[env var: NODEGRAPH_CACHE_REMOTE]",
)
remote_option: Option = click.option(
    "--remote",
    is_flag=False,
    flag_value="",
    metavar="[URL]",
    help="Work on the shared store at URL; without URL, on the one that NODEGRAPH_CACHE_REMOTE or your config.toml names.",
)
device_option: Option = click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Compute on this device: auto, cpu, cuda, cuda:N or mps.",
)
dtype_option: Option = click.option(
    "--dtype",
    default="auto",
    show_default=True,
    metavar="NAME",
    help="Compute in this dtype: auto, float32, bfloat16 or float16.",
)
out_option: Option = click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="out",
    show_default=True,
    metavar="DIR",
    help="Write outputs to this folder.",
)
overwrite_option: Option = click.option(
    "--overwrite", is_flag=True, help="Replace files with other content instead of numbering the new ones."
)
target_option: Option = click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NODE",
    shell_complete=complete("targets"),
    help="Compute this node, or one of its outputs (node.port), instead of the workflow's outputs. May be repeated.",
)
force_option: Option = click.option(
    "--force",
    multiple=True,
    metavar="NODE",
    shell_complete=complete("nodes"),
    help="Run this node, and every node that depends on it, even if their results are in the cache. May be repeated.",
)
preview_option: Option = click.option(
    "--preview",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="While nodes run, write previews of their results to this folder, for a viewer that reloads changed files.",
)


inline_option: Option = click.option(
    "--inline",
    type=click.Choice(INLINE),
    metavar="HOW",
    show_default="auto",
    help="Show outputs in the terminal: auto (if it can), never, or as kitty, iterm or sixel take them.  "
    f"[env var: {INLINE_VARIABLE}]",
)
open_option: Option = click.option("--open", "opened", is_flag=True, help="Open the outputs in the system's viewer.")
base_option: Option = click.option(
    "--base",
    "bases",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="DIR",
    help="If FILE is an output: also look in this folder for the files that it was made of. May be repeated.",
)
json_option: Option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")


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
    shell_complete=complete("settings"),
    callback=_split,
    help="Set a param of the workflow (name=value) or an input of a node (node.input=value). May be repeated.",
)


preset_option: Option = click.option(
    "-f",
    "--preset",
    "presets",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="PRESET.yaml",
    help="Set the params and inputs that this file lists, under the names that --set takes. May be repeated; --set comes last.",
)


def overrides(settings: Sequence[tuple[str, str]], presets: Sequence[Path] = ()) -> list[Override]:
    """The values of presets and of `--set`: text that is parsed by the type of its input.

    Relative paths start from the folder of the preset, or the current directory. Raises WorkflowError for a preset that is wrong.
    """
    from nodegraph.graph.overrides import Override

    found = []
    if presets:
        from nodegraph.workflow.presets import read_preset

        for path in presets:
            found += [Override(v.name, v.value, base=v.base, where=v.where) for v in read_preset(path)]
    return [*found, *(Override(name=name, value=value, text=True, base=Path.cwd()) for name, value in settings)]


# --- where nodes run

executor_option: Option = click.option(
    "--executor",
    type=click.Choice(["threads", "ray"]),
    default="threads",
    show_default=True,
    help="Where nodes run: in this process, or what computes with a model in processes of Ray, one for each GPU.",
)
address_option: Option = click.option(
    "--address",
    metavar="ADDRESS",
    help="With --executor ray: the address of a Ray cluster, or auto. Without it, Ray starts on this machine.",
)
workers_option: Option = click.option(
    "--workers",
    type=click.IntRange(min=1),
    metavar="N",
    help="With --executor ray: how many processes. Default: one for each GPU, or for each machine without GPUs.",
)
gpus_option: Option = click.option(
    "--gpus-per-worker",
    type=click.FloatRange(min=0),
    metavar="N",
    help="With --executor ray: how many GPUs each process gets; 0.5 lets two share one. Default: 1 if there are GPUs.",
)


def _labels(ctx: click.Context, param: click.Parameter, values: Sequence[str]) -> list[tuple[str, str]]:
    labels = [tuple(text.split("=", 1)) for text in values]
    if wrong := [text for text, label in zip(values, labels, strict=True) if len(label) != 2]:
        message = f"expected NAME=VALUE, found '{wrong[0]}'. For example: --worker-label ray.io/accelerator-type=A100"
        raise click.BadParameter(message, ctx=ctx, param=param)
    return [(name, value) for name, value in labels]


label_option: Option = click.option(
    "--worker-label",
    "worker_labels",
    multiple=True,
    metavar="NAME=VALUE",
    callback=_labels,
    help="With --executor ray: use only machines of the cluster with this label. May be repeated.",
)

ship_option: Option = click.option(
    "--ship-models",
    is_flag=True,
    help="With --executor ray: send models and other files that nodes read to machines of the cluster that lack them.",
)
