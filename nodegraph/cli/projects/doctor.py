"""`nodegraph doctor`: what is wrong with this installation and machine, and what to do about it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from nodegraph.cli.failures import verbose_option
from nodegraph.cli.help import DONE, WRONG_CALL, epilog
from nodegraph.cli.options import json_option, nearest_file_argument, plugin_dir_option
from nodegraph.cli.plugin_options import plugins_of
from nodegraph.terminal import echo, echo_json

_MARKS = {"ok": "  ", "note": "- ", "problem": "! "}


@click.command(
    epilog=epilog("nodegraph doctor", "nodegraph doctor --json", status=(DONE, "1 something is wrong", WRONG_CALL)),
)
@nearest_file_argument
@plugin_dir_option
@json_option
@verbose_option("Show a traceback if nodegraph itself fails.")
@click.pass_context
def doctor(ctx: click.Context, file: Path | None, plugin_dirs: Sequence[Path], as_json: bool, verbose: bool) -> None:
    """Check this installation, and say what to do.

    It looks at settings, cache, folders of models, plugins, and at what the machine computes with. A line that begins with '!' is
    a problem, one with '-' a note; below it stands what to do. The project is the one of the workflow FILE, or of the current
    directory.
    """
    from nodegraph.cli.projects.checks import findings

    found = list(findings(lambda: plugins_of(ctx, plugin_dirs)))
    problems = sum(finding.state == "problem" for finding in found)
    if as_json:
        echo_json(json.dumps({"findings": [asdict(finding) for finding in found], "problems": problems}))
    else:
        width = max(len(finding.subject) for finding in found)
        for finding in found:
            echo(f"{_MARKS[finding.state]}{finding.subject:<{width}}  {finding.found}")
            if finding.advice:
                echo(f"  {'':<{width}}  {finding.advice}")
        echo()
        echo("No problems." if not problems else f"{problems} problem{'s' if problems > 1 else ''}.")
    ctx.exit(1 if problems else 0)
