"""`nodegraph watch`: run a workflow again whenever one of its files is saved."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from nodegraph.cli.help import WRONG_WORKFLOW, epilog
from nodegraph.cli.options import file_argument
from nodegraph.cli.plugin_options import ExtensibleCommand
from nodegraph.cli.run_options import AGAIN_AND_AGAIN, OptionValues, run_options
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
@run_options(AGAIN_AND_AGAIN, verbose="Show the keys of nodes.")
@click.pass_context
def watch(ctx: click.Context, file: Path, options: OptionValues) -> None:
    """Run the workflow FILE, and again whenever it is saved.

    The same happens when a workflow that it uses, a file that it reads, or a preset is saved. Only what has changed runs, and
    models stay loaded. Outputs replace those of the run before. A mistake in a file is shown, and the next change is waited for.
    Ctrl-C ends it.
    """
    from nodegraph.cli.running import run_in_engine
    from nodegraph.graph.load import STDIN, example_file

    try:
        import watchfiles  # noqa: F401 (a missing library is reported before anything runs)
    except ImportError:
        raise click.UsageError("watch needs the library watchfiles. Install it with: pip install 'nodegraph[watch]'") from None
    if file == STDIN:
        raise click.UsageError("standard input cannot be watched. Name a file.")
    plugins = options.plugins(ctx)
    path = example_file(file, plugins) or file

    def work(engine: Engine, _: Workflow) -> None:
        _Watch(engine, path, options).run()

    from nodegraph.workflow.workflow import Workflow

    run_in_engine(
        lambda: Workflow(path.stem),
        work,
        plugins,
        options.display,
        engine_options=options.engine_options,
    )


class _Watch:
    """Runs a workflow again and again, on one engine."""

    def __init__(self, engine: Engine, path: Path, options: OptionValues) -> None:
        from nodegraph.cli.inline.outputs import NEVER
        from nodegraph.run.outputs.own_files import OwnFiles

        self._engine, self._path, self._options = engine, path, options
        self._own_files = OwnFiles()
        self._inline = NEVER if options.quiet else options.display.inline
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
                if not self._options.quiet and not cancel.is_set:
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

        own = {path.absolute() for path in (self._path, *self._options.presets)}
        try:
            changes = self._options.changes
            workflow = load_workflow(self._path, self._engine.plugins, changes)
            result = self._engine.run(
                workflow, overrides=changes, own_files=self._own_files, raise_errors=False, **self._options.run_options
            )
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
        if not self._options.quiet:
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
