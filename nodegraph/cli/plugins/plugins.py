"""`nodegraph plugins`: the plugins that were found, and those that cannot be loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.cli.help import epilog
from nodegraph.cli.options import json_option, plugin_dir_option
from nodegraph.cli.tables import print_table
from nodegraph.terminal import echo, echo_json

if TYPE_CHECKING:
    from nodegraph.plugins.manager import LoadedPlugin


@click.command(epilog=epilog("nodegraph plugins", "nodegraph plugins --plugin-dir my_plugins"))
@plugin_dir_option
@json_option
def plugins(plugin_dirs: Sequence[Path], as_json: bool) -> None:
    """List the plugins, including those that cannot be loaded.

    Each row has the version of the plugin or the digest of its code, the time that its import took, and where it comes from.
    The reason why a plugin cannot be loaded goes to stderr.
    """
    from nodegraph.plugins.manager import load_plugins

    loaded = load_plugins(plugin_dirs).loaded
    if as_json:
        echo_json(json.dumps([_object(plugin) for plugin in loaded]))
        return
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


def _object(plugin: LoadedPlugin) -> dict[str, Any]:
    origin = plugin.origin
    return {
        "name": plugin.name,
        "version": origin.version if origin else None,
        "digest": origin.digest if origin else None,
        "seconds": round(plugin.seconds, 4),
        "place": plugin.place,
        "error": plugin.error,
    }
