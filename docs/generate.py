"""Writes the pages that are made from the program itself: `python docs/generate.py`. A test holds that they are up to date."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
from click.testing import CliRunner

from nodegraph.cli import main

DOCS = Path(__file__).parent
NOTE = "<!-- Made by docs/generate.py; change the docstrings instead. -->"


def pages() -> dict[str, str]:
    """Each generated page by its name."""
    return {"cli.md": _command_line(), "nodes.md": _nodes()}


def said(*args: str) -> str:
    """What the command line prints, on a terminal of 80 columns and without anybody's plugin folder."""
    result = CliRunner().invoke(
        main, args, prog_name="nodegraph", env={"COLUMNS": "80", "NODEGRAPH_PLUGIN_DIR": None}, catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def commands() -> list[tuple[str, ...]]:
    """Every command there is, as the words that call it."""
    return list(_below(main, ()))


def _below(group: click.Group, words: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    with click.Context(group, info_name="nodegraph") as context:
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            if isinstance(command, click.Group):
                yield from _below(command, (*words, name))
            else:
                yield (*words, name)


def _command_line() -> str:
    parts = ["# The command line", NOTE, _block("nodegraph --help", said("--help"))]
    for words in commands():
        parts += [f"## nodegraph {' '.join(words)}", _block(f"nodegraph {' '.join(words)} --help", said(*words, "--help"))]
    return "\n\n".join(parts) + "\n"


def _nodes() -> str:
    parts = ["# Nodes, samplers, schedules, guidance", NOTE]
    for kind in ("nodes", "samplers", "schedules", "guidance"):
        parts.append(f"## {kind.capitalize()}")
        for line in said(kind).splitlines():
            name = line.split()[0]
            text = said(kind, name)
            parts += [f"### {name}", _block(None, text[: text.rindex("\nfrom: ")].strip())]
    return "\n\n".join(parts) + "\n"


def _block(command: str | None, text: str) -> str:
    return f"```{'console' if command else 'text'}\n" + (f"$ {command}\n" if command else "") + f"{text}\n```"


if __name__ == "__main__":
    os.environ.pop("NODEGRAPH_PLUGIN_DIR", None)
    for name, text in pages().items():
        (DOCS / name).write_text(text, encoding="utf-8")
        print(f"wrote {DOCS / name}")
