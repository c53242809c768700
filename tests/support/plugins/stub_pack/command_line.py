"""Nodes, a registry and commands for tests of the command line: what they show is easy to read in its output."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, NamedTuple

import click

from nodegraph import Choice, File, Range, Run, node


class Halves(NamedTuple):
    left: str
    right: str


@node("Repeat")
def repeat(text: str, times: Annotated[int, Range(0, 9)] = 2) -> str:
    """Repeat a text."""
    return text * times


@node("Split")
def split(text: str, at: float = 0.5) -> Halves:
    """Cut a text in two."""
    middle = int(len(text) * at)
    return Halves(text[:middle], text[middle:])


@node("Slow")
def slow(text: str, steps: int = 3, pause: float = 0.0, run: Run = Run()) -> str:
    """Take some steps over a text."""
    for i in range(steps):
        time.sleep(pause)
        run.step(i + 1, steps)
    return text.upper()


@node("Read")
def read(path: File) -> str:
    """The text of a file."""
    return path.read_text(encoding="utf-8")


@node("Fail")
def fail(text: str) -> str:
    """Raise ValueError."""
    raise ValueError(f"no good: {text}")


@node("Remark")
def remark(text: str, run: Run = Run()) -> str:
    """Return a text and give a notice."""
    run.notice(f"{text} is short")
    return text


@node("Shape")
def shape(widget: Annotated[Any, Choice("widgets")]) -> str:
    """The name of a registry entry."""
    return widget()


def gear(teeth: int = 12) -> str:
    """A wheel with teeth."""
    return f"gear of {teeth}"


def add_commands(cli: click.Group) -> None:
    @cli.command()
    def loaded() -> None:
        """List the heavy modules that are imported."""
        click.echo(" ".join(name for name in ("torch", "networkx", "numpy", "rich") if name in sys.modules))

    @cli.command("run")
    def impostor() -> None:
        """Try to replace a command."""
