"""`nodegraph plugins`: what was found, where, and what could not be loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from nodegraph.cli.options import plugin_dir_option
from nodegraph.cli.tables import print_table


@click.command()
@plugin_dir_option
def plugins(plugin_dirs: Sequence[Path]) -> None:
    """List the plugins, and those that cannot be loaded.

    Each with the state of its code, what its import cost, and where it came from.
    """
    from nodegraph.plugins.manager import load_plugins

    loaded = load_plugins(plugin_dirs).loaded
    rows = []
    for plugin in loaded:
        origin = plugin.origin
        version = (origin.digest[:12] if origin.digest else origin.version) if origin else "-"
        cost = "broken" if plugin.error else f"{plugin.seconds * 1000:.0f} ms"
        rows.append((plugin.name, version, cost, plugin.place))
    print_table(("plugin", "version", "import", "from"), rows)
    for plugin in loaded:
        if plugin.error:
            click.echo(plugin.error, err=True)
