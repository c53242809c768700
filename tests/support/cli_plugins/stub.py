"""The plugin for tests of the command line, in one file: nodes without tensors, a registry and two commands."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

import click
import pluggy

from nodegraph import Choice, File, Help, Range, Run, Seed, hookimpl, node

hookspec = pluggy.HookspecMarker("nodegraph")


class Halves(NamedTuple):
    left: str
    right: str


@node("Text", version=2)
def text(value: Annotated[str, Help("what it says")] = "hello") -> str:
    """Return a text."""
    return value


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


@node("Draw")
def draw(seed: Seed) -> int:
    """Return a number that depends on the seed."""
    return seed * 7 % 1000


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


class Hooks:
    """The hooks that this plugin adds."""

    @staticmethod
    @hookspec
    def register_widgets(register: Callable[..., None]) -> None:
        """Register widgets."""


@hookimpl
def add_hooks(pluginmanager: pluggy.PluginManager) -> None:
    pluginmanager.add_hookspecs(Hooks)


@hookimpl
def register_nodes(register: Callable[[Callable[..., Any]], None]) -> None:
    for function in (text, repeat, split, slow, read, draw, fail, remark, shape):
        register(function)


@hookimpl
def register_widgets(register: Callable[..., None]) -> None:
    register("gear", gear)


@hookimpl
def register_commands(cli: click.Group) -> None:
    @cli.command()
    def loaded() -> None:
        """List the heavy modules that are imported."""
        click.echo(" ".join(name for name in ("torch", "networkx", "numpy", "rich") if name in sys.modules))

    @cli.command("run")
    def impostor() -> None:
        """Try to replace a command."""
