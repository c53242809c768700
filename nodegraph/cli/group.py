"""The group of all commands: the engine's own, those that plugins add, and one for each registry."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from nodegraph import terminal
from nodegraph.cli import failures
from nodegraph.cli.plugin_options import plugins_of
from nodegraph.gc_pause import resume_after_start

if TYPE_CHECKING:
    from nodegraph.plugins.manager import Plugins

COMPLETION_VARIABLE = "_NODEGRAPH_COMPLETE"
"""What click's shell scripts set to ask for completions."""

_JSON_FLAG = "--json"
_ADDED = "nodegraph.added_commands"  # where a context keeps the commands of plugins once they are loaded


class Commands(click.Group):
    """The engine's own commands need no plugin; plugins are loaded only to list all commands or to find another one.

    `modules` are the modules of the own commands. Each is imported when its command is needed, and holds it
    under its own name.
    """

    def __init__(self, *args: Any, modules: Mapping[str, str], **options: Any) -> None:
        super().__init__(*args, **options)
        self._modules = modules

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self._modules, *sorted(self._added(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self._modules:
            return self._added(ctx).get(cmd_name)
        module = self._modules[cmd_name]
        command: click.Command = getattr(importlib.import_module(module), module.rpartition(".")[2])
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            failures.warn_of_broken(plugins_of(ctx, [], only_commands=True))  # the command may belong to one of them
            import difflib

            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"Did you mean '{close[0]}'?" if close else "'nodegraph --help' lists the commands."
            ctx.fail(f"There is no command '{name}'. {hint}")
        if name not in self._modules:
            resume_after_start()  # the command of a plugin may compute for hours
        return super().resolve_command(ctx, args)

    def main(self, *args: Any, **options: Any) -> Any:
        """Run the command that the words on the command line name, and exit with its status."""
        terminal.prepare()
        if COMPLETION_VARIABLE in os.environ:
            from nodegraph.cli import completion

            completion.prepare()
        try:
            return super().main(*args, **options)
        except OSError as error:  # such as stdout or stderr on a full disk; `invoke` catches what commands raise
            sys.exit(failures.report(error, verbose=False))

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        """Parse the command line."""
        try:
            return super().make_context(*args, **options)
        except KeyboardInterrupt as error:
            sys.exit(failures.report(error, verbose=False))

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; every exception becomes a message on stderr and an exit status.

        With --json, it is also a JSON object on stdout, unless the command has printed one.
        """
        as_json = _JSON_FLAG in ctx.args  # these are the words after the name of the command
        try:
            result = super().invoke(ctx)
            terminal.flush()
        except click.ClickException as error:
            if as_json:
                _print_problems(error)
            error.message = terminal.escaped(error.message)  # type: ignore[misc]  # it may repeat what a file says
            raise
        except (click.exceptions.Exit, BrokenPipeError):
            raise
        except BaseException as error:
            if as_json and not isinstance(error, SystemExit):
                _print_problems(error)
            ctx.exit(failures.report(error, verbose=failures.is_verbose(ctx)))
        return result

    def _added(self, ctx: click.Context) -> dict[str, click.Command]:
        added: dict[str, click.Command] | None = ctx.meta.get(_ADDED)
        if added is None:
            added = ctx.meta[_ADDED] = self._commands_of(plugins_of(ctx, [], only_commands=True))
        return added

    def _commands_of(self, plugins: Plugins) -> dict[str, click.Command]:
        """The commands that plugins register, and a listing for each registry; the first plugin to use a name keeps it."""
        from nodegraph.cli.plugins.registries import registry_command

        owners = dict.fromkeys(self._modules, "nodegraph")
        added: dict[str, click.Command] = {}
        for plugin in plugins.loaded:
            own = click.Group()
            try:
                plugins.call(plugin, "register_commands", cli=own)
            except Exception as error:
                failures.warn(f"plugin '{plugin.name}' ({plugin.place}) cannot add its commands: {error}")
            for name, command in own.commands.items():
                if name in owners:
                    failures.warn(
                        f"plugin '{plugin.name}' ({plugin.place}) adds a command '{name}', which '{owners[name]}' has. "
                        "It is left out; rename it"
                    )
                    continue
                owners[name], added[name] = plugin.name, command
        for kind in plugins.registries:
            if kind not in owners:
                added[kind] = registry_command(kind)
        return added


def _print_problems(error: BaseException) -> None:
    """Print the mistakes that ended a command as JSON, if it has not printed its own JSON before."""
    import json

    if not terminal.has_written_json():
        terminal.echo_json(json.dumps({"problems": failures.problems(error)}))
