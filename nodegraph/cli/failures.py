"""Error messages on stderr, and the exit status that belongs to each."""

from __future__ import annotations

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
    """The option -v: passed to the command, and kept in the context for `is_verbose`."""

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> bool:
        ctx.meta[_VERBOSE] = value
        return value

    return click.option("-v", "--verbose", is_flag=True, callback=remember, help=help)


def is_verbose(ctx: click.Context) -> bool:
    return bool(ctx.meta.get(_VERBOSE))


def report(error: BaseException, *, verbose: bool) -> int:
    """Write the error to stderr; returns the exit status.

    An error of nodegraph is written as it is. Any other one is a bug: one line, and how to report it.
    """
    if verbose:
        import traceback

        click.echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    if isinstance(error, NodegraphError):
        click.echo(str(error) or "Cancelled", err=True)
        return error.exit_status
    if isinstance(error, KeyboardInterrupt | click.Abort):
        click.echo("Interrupted", err=True)
        return Cancelled.exit_status
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    message = " ".join(f"{type(error).__name__}: {error}".split())
    wanted = "the lines above" if verbose else "what the same command prints with -v"
    click.echo(f"nodegraph: unexpected {message}{_location(error)}. This is a bug in nodegraph: please report {wanted}.", err=True)
    return 1


def warn(message: str) -> None:
    """Write a warning to stderr."""
    click.echo(f"warning: {sentence(message)}", err=True)


def warn_of_broken(plugins: Plugins, *, fatal: bool = True) -> None:
    """Warn about each plugin that cannot be used, which may be why a node is missing.

    With `fatal=False`, fatal plugins are left out: the engine raises an error for them.
    """
    for plugin in plugins.broken():
        if fatal or not plugin.fatal:
            warn(str(plugin.error))


def _location(error: BaseException) -> str:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    return f" ({frames[-1].filename}:{frames[-1].lineno})"
