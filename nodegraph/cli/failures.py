"""What a person reads when something goes wrong, and the exit status that goes with it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nodegraph.errors import Cancelled, NodegraphError
from nodegraph.text import sentence

if TYPE_CHECKING:
    from nodegraph.plugins.manager import Plugins

F = TypeVar("F", bound=Callable[..., Any])

_VERBOSE = "nodegraph.verbose"


def verbose_option(help: str) -> Callable[[F], F]:
    """The option -v: remembered in the context, where the handling of failures finds it, and given to the command."""

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
        ctx.meta[_VERBOSE] = value
        return value

    return click.option("-v", "--verbose", is_flag=True, callback=remember, help=help)


def is_verbose(ctx: click.Context) -> bool:
    return bool(ctx.meta.get(_VERBOSE))


def report(error: BaseException, *, verbose: bool) -> int:
    """Write what went wrong to stderr and give the exit status.

    An error of ours is written as it reads. Anything else is a mistake in nodegraph: one line, and how to report it.
    """
    if verbose:
        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    if isinstance(error, NodegraphError):
        click.echo(str(error) or "Cancelled", err=True)
        return error.exit_status
    if isinstance(error, KeyboardInterrupt | click.Abort):
        click.echo("Interrupted", err=True)
        return Cancelled.exit_status
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    said = " ".join(f"{type(error).__name__}: {error}".split())
    asked = "the lines above" if verbose else "what the same command with -v prints"
    click.echo(
        f"nodegraph: unexpected {said}{_place(error)}. This is a mistake in the program: please report {asked}.",
        err=True,
    )
    return 1


def warn(message: str) -> None:
    """Write a warning to stderr."""
    click.echo(f"warning: {sentence(message)}", err=True)


def warn_of_broken(plugins: Plugins, *, fatal: bool = True) -> None:
    """Name each plugin that could not be loaded: a node that is missing is explained by it.

    Without those that are `fatal`, which an engine refuses to run beside, and so names itself.
    """
    for plugin in plugins.broken():
        if fatal or not plugin.fatal:
            warn(str(plugin.error))


def _place(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    return f" ({frames[-1].filename}:{frames[-1].lineno})"
