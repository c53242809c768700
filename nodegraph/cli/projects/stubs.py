"""`nodegraph stubs`: types of the installed nodes, for editors and type checkers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import click

from nodegraph.cli.failures import verbose_option
from nodegraph.cli.help import DONE, WRONG_CALL, epilog
from nodegraph.cli.options import json_option, plugin_dir_option
from nodegraph.cli.plugin_options import plugins_of
from nodegraph.terminal import echo, echo_json


@click.command(
    epilog=epilog(
        "nodegraph stubs", "nodegraph stubs --check", status=(DONE, "1 with --check: the files are not up to date", WRONG_CALL)
    )
)
@click.argument("folder", type=click.Path(path_type=Path), default="typings", metavar="[DIR]")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 if the files are missing or not up to date.")
@plugin_dir_option
@json_option
@verbose_option("Show a traceback if nodegraph itself fails.")
@click.pass_context
def stubs(ctx: click.Context, folder: Path, check: bool, plugin_dirs: Sequence[Path], as_json: bool, verbose: bool) -> None:
    """Write types of the installed nodes, for editors.

    With them, editors complete inputs and outputs of nodes in Python, and mypy and pyright report wrong ones. pyright and editors
    that use it look in DIR, 'typings', by themselves; for mypy, set mypy_path to it. Run this again after you install plugins.
    """
    from nodegraph.workflow.editors.stubs import changed_files, stub_files

    files = stub_files(plugins_of(ctx, plugin_dirs))
    changed = list(changed_files(files, folder))
    if not check:
        for path in changed:
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(files[path], encoding="utf-8")
    if as_json:
        listed = {"files": [*files], "changed": changed}
        echo_json(json.dumps({key: [str(folder / path) for path in paths] for key, paths in listed.items()}))
    else:
        for path in changed:
            echo(f"{'would write' if check else 'wrote'} {folder / path}")
        if not changed:
            echo("up to date")
    ctx.exit(1 if check and changed else 0)
