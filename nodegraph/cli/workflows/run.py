"""`nodegraph run`: run a workflow and print where each output went."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from nodegraph.cli.failures import verbose_option
from nodegraph.cli.help import DONE, WRONG_WORKFLOW, epilog
from nodegraph.cli.options import (
    base_option,
    cache_dir_option,
    cache_size_option,
    device_option,
    dtype_option,
    file_argument,
    force_option,
    inline_option,
    open_option,
    out_option,
    overrides,
    overwrite_option,
    plugin_dir_option,
    preset_option,
    preview_option,
    set_option,
    target_option,
)
from nodegraph.cli.plugin_options import ExtensibleCommand, plugins_of
from nodegraph.cli.workflows.verify_option import verify_option, with_share


class _Run(ExtensibleCommand):
    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        return super().parse_args(ctx, with_share(args))


@click.command(
    cls=_Run,
    epilog=epilog(
        "nodegraph run workflow.yaml",
        "nodegraph run workflow.yaml --set seed=8 --out results",
        "nodegraph run workflow.yaml --no-cache --json",
        status=(
            DONE,
            "1 a node failed or an output could not be written",
            WRONG_WORKFLOW,
            "3 done, but --verify-cache found wrong results",
            "130 interrupted",
            "143 terminated",
        ),
    ),
)
@file_argument
@set_option
@preset_option
@base_option
@out_option
@overwrite_option
@target_option
@force_option
@click.option("--no-metadata", is_flag=True, help="Write outputs that do not say how they were made.")
@click.option("--keep-going", is_flag=True, help="If a node fails, still run every node that does not depend on it.")
@cache_dir_option
@cache_size_option
@verify_option
@click.option("--locked", is_flag=True, help="Run only if models, files, versions and the workflow match the lock file of FILE.")
@click.option("--no-cache", is_flag=True, help="Do not read or write the cache on disk.")
@device_option
@dtype_option
@preview_option
@plugin_dir_option
@inline_option
@open_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object about the run instead of paths.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress and no notes on stderr.")
@verbose_option("Show the keys of nodes, and a traceback of every failure.")
@click.pass_context
def run(
    ctx: click.Context,
    file: Path,
    settings: Sequence[tuple[str, str]],
    presets: Sequence[Path],
    bases: Sequence[Path],
    out: Path,
    overwrite: bool,
    targets: Sequence[str],
    force: Sequence[str],
    no_metadata: bool,
    keep_going: bool,
    cache_dir: Path | None,
    cache_size: str | None,
    verify: float | None,
    locked: bool,
    no_cache: bool,
    device: str,
    dtype: str,
    preview: Path | None,
    plugin_dirs: Sequence[Path],
    inline: str | None,
    opened: bool,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run the workflow FILE and print the paths of its outputs.

    FILE may be '-' for standard input, or an output that a run wrote, which is then made again. A node whose inputs have not
    changed is not run again: its result comes from the cache.
    Ctrl-C, or SIGTERM, stops at the next step and keeps every finished result; a second one stops at once.
    """
    from nodegraph.cli.running import Display, cache_options, run_and_print
    from nodegraph.cli.viewer import find_viewer
    from nodegraph.graph.load import load_workflow
    from nodegraph.settings import load_inline

    if verify and no_cache:
        raise click.UsageError("--verify-cache checks results in the cache, which --no-cache does not read. Leave out one of them.")
    plugins = plugins_of(ctx, plugin_dirs)
    options = cache_options(cache_dir, cache_size, no_cache=no_cache)
    viewer = find_viewer() if opened else None
    display = Display(quiet=quiet, verbose=verbose, as_json=as_json, preview=preview, inline=load_inline(inline), viewer=viewer)
    changes = overrides(settings, presets)
    run_and_print(
        lambda: load_workflow(file, plugins, changes, bases),
        plugins,
        display,
        engine_options={"device": device, "dtype": dtype, **options},
        run_options={
            "overrides": changes,
            "targets": targets or None,
            "force": force,
            "keep_going": keep_going,
            "out": out,
            "overwrite": overwrite,
            "verify": verify,
            "locked": locked,
            "metadata": not no_metadata,
        },
    )
