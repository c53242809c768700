"""The group of all commands: our own, those that plugins add, and one for each registry that a plugin brings."""

from __future__ import annotations

import difflib
import sys
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli import failures

if TYPE_CHECKING:
    from nodegraph.plugins.manager import Plugins

_GUESTS = "nodegraph.guests"  # where a context keeps the commands of plugins, once they are loaded


class Commands(click.Group):
    """Our commands come first and need no plugin; plugins are loaded when a name is asked for that is none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *sorted(self._guests(ctx))]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return self.commands.get(cmd_name) or self._guests(ctx).get(cmd_name)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            close = difflib.get_close_matches(name, self.list_commands(ctx), n=1)
            hint = f"Did you mean '{close[0]}'?" if close else "'nodegraph --help' lists the commands."
            ctx.fail(f"There is no command '{name}'. {hint}")
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; whatever goes wrong becomes a message on stderr and an exit status."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # a reader that went away is noticed here, not while the interpreter shuts down
        except (click.exceptions.Exit, click.ClickException, BrokenPipeError):
            raise
        except BaseException as error:
            ctx.exit(failures.report(error, verbose=failures.is_verbose(ctx)))
        return result

    def _guests(self, ctx: click.Context) -> dict[str, click.Command]:
        guests: dict[str, click.Command] | None = ctx.meta.get(_GUESTS)
        if guests is None:
            from nodegraph.plugins.manager import load_plugins

            guests = ctx.meta[_GUESTS] = self._commands_of(load_plugins())
        return guests

    def _commands_of(self, plugins: Plugins) -> dict[str, click.Command]:
        """The commands that plugins register, and a listing for each registry; the first to take a name keeps it."""
        from nodegraph.cli.plugins.registries import registry_command

        taken = dict.fromkeys(self.commands, "nodegraph")
        guests: dict[str, click.Command] = {}
        for plugin in plugins.loaded:
            if plugin.module is None or plugin.error:
                continue
            own = click.Group()
            others = [module for module in plugins.manager.get_plugins() if module is not plugin.module]
            try:
                plugins.manager.subset_hook_caller("register_commands", others)(cli=own)
            except Exception as error:
                failures.warn(f"plugin '{plugin.name}' ({plugin.place}) cannot add its commands: {error}")
            for name, command in own.commands.items():
                if name in taken:
                    failures.warn(
                        f"plugin '{plugin.name}' ({plugin.place}) adds a command '{name}', which '{taken[name]}' has. "
                        "It is left out; rename it"
                    )
                    continue
                taken[name], guests[name] = plugin.name, command
        for kind, registry in plugins.registries.items():
            if kind not in taken:
                guests[kind] = registry_command(kind, registry)
        return guests
