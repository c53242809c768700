"""`nodegraph watch`: run a workflow again whenever one of its files is saved."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from nodegraph.cli.failures import verbose_option
from nodegraph.cli.help import WRONG_WORKFLOW, epilog
from nodegraph.cli.options import (
    cache_dir_option,
    cache_size_option,
    device_option,
    dtype_option,
    file_argument,
    inline_option,
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
from nodegraph.terminal import echo

if TYPE_CHECKING:
    from nodegraph.engine import Engine
    from nodegraph.graph.graph import Graph
    from nodegraph.run.result import Result
    from nodegraph.workflow.workflow import Workflow

_LOOK_MS: Final = 500  # how often the files are looked at even if the system reports no change
_SETTLE_MS: Final = 50  # how long to wait for more changes


@click.command(
    cls=ExtensibleCommand,
    epilog=epilog(
        "nodegraph watch workflow.yaml", "nodegraph watch workflow.yaml --preview seen", status=(WRONG_WORKFLOW, "130 interrupted")
    ),
)
@file_argument
@set_option
@preset_option
@out_option
@overwrite_option
@target_option
@click.option("--keep-going", is_flag=True, help="If a node fails, still run every node that does not depend on it.")
@cache_dir_option
@cache_size_option
@click.option("--no-cache", is_flag=True, help="Do not read or write the cache on disk.")
@device_option
@dtype_option
@preview_option
@plugin_dir_option
@inline_option
@click.option("-q", "--quiet", is_flag=True, help="Show no progress and no notes on stderr.")
@verbose_option("Show the keys of nodes.")
@click.pass_context
def watch(
    ctx: click.Context,
    file: Path,
    settings: Sequence[tuple[str, str]],
    presets: Sequence[Path],
    out: Path,
    overwrite: bool,
    targets: Sequence[str],
    keep_going: bool,
    cache_dir: Path | None,
    cache_size: str | None,
    no_cache: bool,
    device: str,
    dtype: str,
    preview: Path | None,
    plugin_dirs: Sequence[Path],
    inline: str | None,
    quiet: bool,
    verbose: bool,
) -> None:
    """Run the workflow FILE, and again whenever it is saved.

    The same happens when a workflow that it uses, a file that it reads, or a preset is saved. Only what has changed runs, and
    models stay loaded. Outputs replace those of the run before. A mistake in a file is shown, and the next change is waited for.
    Ctrl-C ends it.
    """
    from nodegraph.cli.inline.outputs import NEVER
    from nodegraph.cli.running import Display, cache_options, run_in_engine
    from nodegraph.graph.load import STDIN, example_file
    from nodegraph.settings import load_inline

    try:
        import watchfiles  # noqa: F401 (a missing library is reported before anything runs)
    except ImportError:
        raise click.UsageError("watch needs the library watchfiles. Install it with: pip install 'nodegraph[watch]'") from None
    if file == STDIN:
        raise click.UsageError("standard input cannot be watched. Name a file.")
    plugins = plugins_of(ctx, plugin_dirs)
    path = example_file(file, plugins) or file
    options = {"targets": targets or None, "keep_going": keep_going, "out": out, "overwrite": overwrite}

    def work(engine: Engine, _: Workflow) -> None:
        shown = NEVER if quiet else load_inline(inline)
        _Watch(engine, path, settings=settings, presets=presets, options=options, quiet=quiet, inline=shown).run()

    from nodegraph.workflow.workflow import Workflow

    run_in_engine(
        lambda: Workflow(path.stem),
        work,
        plugins,
        Display(quiet=quiet, verbose=verbose, preview=preview),
        engine_options={"device": device, "dtype": dtype, **cache_options(cache_dir, cache_size, no_cache=no_cache)},
    )


class _Watch:
    """Runs a workflow again and again, on one engine."""

    def __init__(
        self,
        engine: Engine,
        path: Path,
        *,
        settings: Sequence[tuple[str, str]],
        presets: Sequence[Path],
        options: Mapping[str, Any],
        quiet: bool,
        inline: str,
    ) -> None:
        from nodegraph.run.outputs.own_files import OwnFiles

        self._engine, self._path, self._settings, self._presets = engine, path, settings, presets
        self._options, self._quiet = {**options, "own_files": OwnFiles()}, quiet
        self._inline = inline
        self._files: set[Path] = set()
        self._is_broken = False

    def run(self) -> None:
        """Run, wait for a change, and so on, until the engine is cancelled. Then raises Cancelled."""
        from nodegraph.errors import Cancelled
        from nodegraph.files import file_states

        with self._engine.sequence() as cancel:
            while not cancel.is_set:
                began = time.time_ns()
                self._run_once()
                before = file_states(sorted(self._files))
                if any(state is not None and state.changed_since(began) for state in before.values()):
                    continue  # saved while it ran
                if not self._quiet and not cancel.is_set:
                    echo(f"watching {len(self._files)} {'file' if len(self._files) == 1 else 'files'}; Ctrl-C ends it", err=True)
                for changed in self._changes():
                    if cancel.is_set or file_states(sorted(self._files)) != before or (changed and self._is_broken):
                        break
        raise Cancelled("stopped watching")

    def _run_once(self) -> None:
        from nodegraph.cli.inline.outputs import inline_outputs
        from nodegraph.errors import Cancelled, NodegraphError
        from nodegraph.graph.load import load_workflow
        from nodegraph.workflow.subworkflows import files_used

        own = {path.absolute() for path in (self._path, *self._presets)}
        try:
            changes = overrides(self._settings, self._presets)
            workflow = load_workflow(self._path, self._engine.plugins, changes)
            result = self._engine.run(workflow, overrides=changes, raise_errors=False, **self._options)
        except NodegraphError as error:
            self._is_broken = True
            self._files |= {*own, *files_used(self._path)}  # and what it read before
            echo(str(error), err=True)
            return
        self._is_broken = result.error is not None
        self._files = {*own, *files_used(self._path), *_read_by(result.graph)}
        if isinstance(result.error, Cancelled):
            return
        if result.error is not None:
            echo(str(result.error), err=True)
        with inline_outputs(self._inline, self._engine.plugins.backend) as show:
            for path in (path for paths in result.outputs.values() for path in paths):
                echo(str(path))
                show(path)
        if not self._quiet:
            echo(_reused(result), err=True)

    def _changes(self) -> Iterator[bool]:
        """Whether something changed in the folders of the files, again and again."""
        import watchfiles

        folders = sorted({str(file.parent) for file in self._files if file.parent.is_dir()})
        changes = watchfiles.watch(
            *folders,
            watch_filter=None,
            debounce=_LOOK_MS,
            step=_SETTLE_MS,
            rust_timeout=_LOOK_MS,
            yield_on_timeout=True,
            recursive=False,
            raise_interrupt=False,
        )
        yield from map(bool, changes)


def _read_by(graph: Graph) -> Iterator[Path]:
    """The files that the nodes of a graph read."""
    from nodegraph.graph.graph import Value

    for node in graph.nodes.values():
        for input in node.inputs.values():
            if isinstance(input, Value) and input.files is not None:
                yield from (path.absolute() for path in input.files.values())


def _reused(result: Result) -> str:
    """What a run has reused and computed, in one line."""
    parts = [f"{len(result.cached)} reused"] if result.cached else []
    parts += [f"{len(result.ran)} ran ({', '.join(result.ran[:5])}{', ...' if len(result.ran) > 5 else ''})"] if result.ran else []
    return f"{', '.join(parts) or 'nothing ran'} in {result.seconds:.2f} s"
