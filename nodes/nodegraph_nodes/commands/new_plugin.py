"""`nodegraph new-plugin`: the folder of a plugin that works, as a starting point."""

from __future__ import annotations

import importlib.util
import keyword
import re
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from nodegraph.plugin_api import echo
from nodegraph_nodes.commands.help import epilog
from nodegraph_nodes.commands.options import plugin_dir_option

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nodegraph.plugin_api import Plugins, Registry

KINDS = ("sampler", "schedule", "guidance", "node")

_TEMPLATES = Path(__file__).parent / "templates"
_REGISTRIES = {"sampler": "samplers", "schedule": "schedules", "guidance": "guidance"}
_LISTINGS = {**_REGISTRIES, "node": "nodes"}


@click.command(
    "new-plugin",
    params=[plugin_dir_option()],
    epilog=epilog("nodegraph new-plugin sampler my_sampler", "nodegraph new-plugin node my_node --out plugins/my_node"),
)
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    metavar="DIR",
    show_default="NAME in the current folder",
    help="Write this folder, which must not exist.",
)
def new_plugin(kind: str, name: str, out: Path | None, plugin_dirs: Sequence[Path]) -> None:
    """Create a plugin: a KIND called NAME, with its tests.

    KIND is sampler, schedule, guidance or node. The folder holds the plugin in one file, its tests, a README and a
    pyproject.toml, so that it can be installed. Nothing that exists is overwritten.
    """
    from nodegraph.plugin_api import load_plugins

    _require_usable(name)
    _require_free(kind, name, load_plugins(plugin_dirs))
    folder = out or Path(name)
    written = _write(folder, contents(kind, name, folder))
    for path in written:
        echo(f"wrote {path}")
    echo("\nIt works as it is:")
    for command in commands(kind, name, folder):
        echo(f"  {command}")


def contents(kind: str, name: str, folder: Path) -> dict[str, str]:
    """The text of each file of a new plugin, by its path in the folder."""
    words = {
        "kind": kind,
        "name": name,
        "type": node_type(name),
        "dist": name.strip("_").replace("_", "-"),
        "folder": shlex.quote(str(folder)),
    }
    return {
        f"{name}.py": _filled(f"{kind}/plugin.py.txt", words),
        f"tests/test_{name}.py": _filled(f"{kind}/test.py.txt", words),
        "pyproject.toml": _filled("pyproject.toml.txt", words),
        "README.md": _filled(f"{kind}/README.md.txt", words),
    }


def commands(kind: str, name: str, folder: Path) -> Iterator[str]:
    """Commands to try next, as they are typed."""
    path = shlex.quote(str(folder))
    yield f"python -m pytest {path}    # after: pip install pytest"
    yield f"nodegraph {_LISTINGS[kind]} {node_type(name) if kind == 'node' else name} --plugin-dir {path}"
    if kind in ("sampler", "schedule"):
        yield f"nodegraph run txt2img --plugin-dir {path} --set sampled.{kind}={name}"
    yield f"pip install -e {path}    # then it works without --plugin-dir"


def node_type(name: str) -> str:
    """The name of the node type for a function's name: MyNode for my_node."""
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _filled(template: str, words: Mapping[str, str]) -> str:
    text = _TEMPLATES.joinpath(template).read_text(encoding="utf-8")
    return re.sub(r"\{\{(\w+)\}\}", lambda found: words[found[1]], text)


def _require_usable(name: str) -> None:
    """Raise UsageError if `name` cannot be the name of a Python module, or is one already."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name) or keyword.iskeyword(name):
        close = re.sub(r"\W+|^(?=\d)", "_", name, flags=re.ASCII).strip("_").lower()
        hint = f"my_{close}" if not close[:1].isalpha() or keyword.iskeyword(close) else close
        raise click.UsageError(
            f"A plugin is a Python module: expected a name of letters, digits and underscores that begins with a letter and is "
            f"not a keyword, found '{name}'. Call it '{hint.rstrip('_')}', for example."
        )
    if name in sys.stdlib_module_names or _is_installed(name):
        raise click.UsageError(
            f"There is a Python module '{name}' already, and the plugin would hide it. Call the plugin 'my_{name}', for example."
        )


def _is_installed(name: str) -> bool:
    spec = importlib.util.find_spec(name)
    return spec is not None and spec.origin is not None  # a folder that is not a package has no origin


def _require_free(kind: str, name: str, plugins: Plugins) -> None:
    """Raise UsageError if the name is taken."""
    wanted = node_type(name) if kind == "node" else name
    registry: Registry[Any] | None = plugins.nodes if kind == "node" else plugins.registries.get(_REGISTRIES[kind])
    if registry is not None and wanted in registry:
        taken = registry.get(wanted)
        raise click.UsageError(
            f"There is a {kind} '{wanted}' already, from the plugin '{taken.origin.plugin}' ({taken.origin.place}). "
            f"Call yours 'my_{name}', for example."
        )
    called = next((plugin for plugin in plugins.loaded if plugin.name == name), None)
    if called is not None:
        raise click.UsageError(f"There is a plugin '{name}' already ({called.place}). Call yours 'my_{name}', for example.")


def _write(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Write all files of a new folder, or none of them. Raises UsageError if it exists or cannot be written."""
    if folder.exists() or folder.is_symlink():
        raise click.UsageError(f"{folder} exists already and stays as it is. Name another folder with --out.")
    unfinished = folder.parent / f".{folder.name}-{secrets.token_hex(4)}"
    try:
        for name, text in texts.items():
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        unfinished.rename(folder)
    except OSError as error:
        raise click.UsageError(f"{folder} cannot be written: {error.strerror}. Name another folder with --out.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return [folder / name for name in texts]
