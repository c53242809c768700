"""`nodegraph init`: a folder for workflows in git, with settings and workflows to begin with."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from nodegraph.cli.failures import verbose_option
from nodegraph.cli.help import epilog
from nodegraph.cli.options import complete, json_option, plugin_dir_option
from nodegraph.cli.plugin_options import plugins_of
from nodegraph.terminal import echo, echo_json

_SETTINGS: Final = """\
# The settings of this project. `nodegraph config` shows all that hold, and where each comes from.

[cache]
dir = "cache"       # beside this file; remove the line to share the cache of your other projects
size = "20 GB"

# [models]
# dirs = ["models", "~/ComfyUI/models"]
"""
_IGNORED: Final = """\
/cache/
/out/
"""


@click.command(epilog=epilog("nodegraph init", "nodegraph init my_project --example txt2img"))
@click.argument("folder", type=click.Path(path_type=Path), default=".", metavar="[DIR]")
@click.option(
    "--example",
    "names",
    multiple=True,
    metavar="NAME",
    shell_complete=complete("examples"),
    help="Begin with this example workflow. May be repeated.  [default: all of them]",
)
@plugin_dir_option
@json_option
@verbose_option("Show a traceback if nodegraph itself fails.")
@click.pass_context
def init(ctx: click.Context, folder: Path, names: Sequence[str], plugin_dirs: Sequence[Path], as_json: bool, verbose: bool) -> None:
    """Begin a project: settings, a .gitignore, and workflows.

    They are written to DIR, by default to the current directory. Nothing that exists is overwritten: a .gitignore stays as it is,
    and anything else with other content is an error.
    """
    from nodegraph.cli.workflows.examples import copies_of, copy_files, found_examples, refuse_to_replace
    from nodegraph.settings import PROJECT_FILE

    plugins = plugins_of(ctx, plugin_dirs)
    copies = copies_of(found_examples(plugins, names), folder / "workflows", plugins)
    texts = {folder / PROJECT_FILE: _SETTINGS}
    if not (folder / ".gitignore").exists():
        texts[folder / ".gitignore"] = _IGNORED
    refuse_to_replace({path: text.encode() for path, text in texts.items()})
    copy_files(copies)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
    written = [*texts, *copies]
    if as_json:
        echo_json(json.dumps([str(path) for path in written]))
        return
    for path in written:
        echo(f"wrote {path}")
    workflows = [path for path in copies if path.parent == folder / "workflows" and path.suffix == ".yaml"]
    if workflows:
        echo(f"\nNext: nodegraph run {shlex.quote(str(min(workflows, key=lambda path: path.stat().st_size)))}", err=True)
