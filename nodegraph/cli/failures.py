"""Error messages on stderr, and the exit status that belongs to each."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from nodegraph.errors import Cancelled, Location, NodegraphError, WorkflowError
from nodegraph.terminal import echo
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
    """Write the error to stderr; returns the exit status."""
    if verbose:
        import traceback

        echo("".join(traceback.format_exception(error)).rstrip(), err=True)
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    echo(_message(error, verbose=verbose), err=True)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return Cancelled.exit_status
    return error.exit_status if isinstance(error, NodegraphError) else 1


def problems(error: BaseException) -> list[dict[str, Any]]:
    """The mistakes that ended a command, for `--json`."""
    if isinstance(error, WorkflowError):
        return [{"code": p.code, **located(p.message, p.where), "hint": p.hint} for p in error.problems]
    message, code = _message(error, verbose=False), None
    _, bracket, after = message.partition("[E")
    if bracket and after[3:5] == "] ":  # it begins with its location, if it has one, and its code
        code, message = f"E{after[:3]}", after[5:]
    return [{"code": code, **located(message, getattr(error, "where", None)), "hint": ""}]


def located(message: str, where: Location | None) -> dict[str, Any]:
    """A message and its location in a workflow, for `--json`."""
    return {
        "message": message,
        "file": where.file if where else None,
        "line": where.line if where else None,
        "column": where.column if where else None,
    }


def warn(message: str) -> None:
    """Write a warning to stderr."""
    echo(f"warning: {sentence(message)}", err=True)


def warn_of_broken(plugins: Plugins, *, fatal: bool = True) -> None:
    """Warn about each plugin that cannot be used, which may be why a node is missing.

    With `fatal=False`, fatal plugins are left out: the engine raises an error for them.
    """
    for plugin in plugins.broken():
        if fatal or not plugin.fatal:
            warn(f"{sentence(str(plugin.error))} {plugin.advice}")


def _message(error: BaseException, *, verbose: bool) -> str:
    """An error of nodegraph as it is. Any other one is a bug: one line, and how to report it."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, NodegraphError):
        return str(error) or "Cancelled"
    if isinstance(error, KeyboardInterrupt | click.Abort):
        return "Interrupted"
    message = " ".join(f"{type(error).__name__}: {error}".split())
    wanted = "the lines above" if verbose else "what the same command prints with -v"
    return f"nodegraph: unexpected {message}{_location(error)}. This is a bug in nodegraph: please report {wanted}."


def _location(error: BaseException) -> str:
    import traceback

    frames = traceback.extract_tb(error.__traceback__)
    if not frames:
        return ""
    return f" ({frames[-1].filename}:{frames[-1].lineno})"
