"""`nodegraph plugins`: the plugins that were found, and those that cannot be loaded."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from nodegraph.cli.help import epilog
from nodegraph.cli.options import plugin_dir_option
from nodegraph.cli.tables import print_table
from nodegraph.terminal import echo


@click.command(epilog=epilog("nodegraph plugins", "nodegraph plugins --plugin-dir my_plugins"))
@plugin_dir_option
def plugins(plugin_dirs: Sequence[Path]) -> None:
    """List the plugins, including those that cannot be loaded.

    Each row has the version of the plugin or the digest of its code, the time that its import took, and where it comes from.
    The reason why a plugin cannot be loaded goes to stderr.
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
            echo(plugin.error, err=True)
