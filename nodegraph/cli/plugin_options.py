"""Commands that plugins add options to, with the hook `register_options`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli import failures

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from nodegraph.plugins.manager import Plugins

_PLUGINS = "nodegraph.plugins"  # where a context keeps the plugins, and the folders they came from
_ADDED = "nodegraph.added_options"  # where it keeps the options that plugins add to its command
_LISTING = "nodegraph.listing_options"  # whether a shell completes the name of an option
_DIRECTORY = "--plugin-dir"


class ExtensibleCommand(click.Command):
    """A command with the options that plugins add to it; the plugins are loaded before its options are parsed.

    Not `with_code`, the code of the plugins is not read: the command makes no keys.
    """

    def __init__(self, *args: Any, with_code: bool = True, **options: Any) -> None:
        super().__init__(*args, **options)
        self._with_code = with_code

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if ctx.resilient_parsing:  # a shell asks for completions, most of which need no plugin
            return super().parse_args(ctx, args)
        plugins = plugins_of(ctx, list(_plugin_dirs(args)), with_code=self._with_code)
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption:
            failures.warn_of_broken(plugins)  # the option may belong to one of them
            raise

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The options of the command, with those of plugins."""
        ctx.meta[_LISTING] = True
        return super().shell_complete(ctx, incomplete)

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        own = super().get_params(ctx)
        if ctx.resilient_parsing and not ctx.meta.get(_LISTING):
            return own
        added: list[click.Option] | None = ctx.meta.get(_ADDED)
        if added is None:
            added = ctx.meta[_ADDED] = []
            taken = {name for parameter in own for name in parameter.opts}
            for option in _added_options(ctx, self.name or ""):
                if taken.isdisjoint(option.opts):
                    added.append(option)
                    taken |= {*option.opts}
        return [*own[:-1], *added, *own[-1:]]  # --help stays last


def plugins_of(
    ctx: click.Context, plugin_dirs: Sequence[Path | str], *, with_code: bool = True, only_commands: bool = False
) -> Plugins:
    """The plugins of this call of the program, as `load_plugins` returns them.

    They are loaded once, unless `plugin_dirs` differ from those of the first load, or that one did less than is needed now.
    """
    from nodegraph.plugins.manager import load_plugins

    folders = list(map(str, plugin_dirs))
    loaded: tuple[list[str], Plugins] | None = ctx.meta.get(_PLUGINS)
    if loaded is None or loaded[0] != folders or not _has(loaded[1], with_code=with_code, only_commands=only_commands):
        plugins = load_plugins(plugin_dirs, with_code=with_code, only_commands=only_commands)
        loaded = ctx.meta[_PLUGINS] = (folders, plugins)
    return loaded[1]


def _has(plugins: Plugins, *, with_code: bool, only_commands: bool) -> bool:
    """Whether plugins were loaded with what is needed."""
    return only_commands or ((plugins.with_code or not with_code) and not plugins.only_commands)


def _plugin_dirs(args: Sequence[str]) -> Iterator[str]:
    """The values of --plugin-dir, which are needed before the other options are known."""
    words = iter(args)
    for word in words:
        name, equals, value = word.partition("=")
        if name == _DIRECTORY:
            yield value if equals else next(words, "")
        elif word == "--":
            return


def _added_options(ctx: click.Context, command: str) -> list[click.Option]:
    """The options that plugins add to `command`, in the order of the plugins."""
    added: list[click.Option] = []
    loaded = ctx.meta.get(_PLUGINS)
    plugins: Plugins = loaded[1] if loaded is not None else plugins_of(ctx, [])
    for plugin in plugins.loaded:

        def register(option: Any, *commands: str) -> None:
            if command in commands:
                added.append(option)

        try:
            plugins.call(plugin, "register_options", register=register)
        except Exception as error:
            failures.warn(f"plugin '{plugin.name}' ({plugin.place}) cannot add its options: {error}")
    return added
