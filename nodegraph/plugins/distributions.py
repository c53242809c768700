"""Installed distributions: what they say about themselves, and the entry points through which they offer plugins.

All of it is in the folders that installers leave beside the code. `importlib.metadata` reads them, too, but importing it takes
longer than everything else that `nodegraph --version` does. So it is used only if it is imported already, or if something else than
such folders may be installed.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.machinery
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from nodegraph.files import parse_json
from nodegraph.plugins.code.installed import has_archives

_ENDINGS: Final = (".dist-info", ".egg-info")
_LIBRARY: Final = "importlib.metadata"


class Distribution(Protocol):
    """The files about an installed distribution: one of `importlib.metadata`, or an `InfoFolder`."""

    def read_text(self, filename: str, /) -> str | None:
        """One of the files about it; None if it does not exist."""
        ...

    def locate_file(self, path: str, /) -> os.PathLike[str]:
        """The place of a file that it installed."""
        ...


class EntryPoint(Protocol):
    """A plugin that a distribution offers: one of `importlib.metadata`, or a `ListedPoint`."""

    @property
    def value(self) -> str: ...
    @property
    def module(self) -> str: ...
    @property
    def attr(self) -> str | None: ...
    @property
    def dist(self) -> Distribution | None: ...
    def load(self) -> Any: ...


class InfoFolder(NamedTuple):
    """The folder with the files about a distribution, such as `rich-13.7.0.dist-info`."""

    path: Path

    def read_text(self, filename: str, /) -> str | None:
        with contextlib.suppress(OSError):
            return (self.path / filename).read_text(encoding="utf-8")
        return None

    def locate_file(self, path: str, /) -> Path:
        return self.path.parent / path


class ListedPoint(NamedTuple):
    """A line of `entry_points.txt`, such as `nodes = package.module:attribute`."""

    name: str
    value: str
    dist: InfoFolder

    @property
    def module(self) -> str:
        return self.value.partition("[")[0].partition(":")[0].strip()

    @property
    def attr(self) -> str | None:
        return self.value.partition("[")[0].partition(":")[2].strip() or None

    def load(self) -> Any:
        """Import what it names."""
        module = importlib.import_module(self.module)
        return functools.reduce(getattr, filter(None, (self.attr or "").split(".")), module)


class Installed(NamedTuple):
    """An installed distribution: `requirements` are its lines of Requires-Dist.

    `url` is where it was installed from, if not from a package index (PEP 610); empty for a released one.
    """

    name: str
    version: str
    requirements: list[str]
    url: Mapping[str, Any]

    @property
    def is_editable(self) -> bool:
        """Whether its files are used where they are."""
        info = self.url.get("dir_info")
        return isinstance(info, dict) and bool(info.get("editable"))


def entry_points(group: str) -> list[EntryPoint]:
    """The entry points of this group, of all installed distributions."""
    if not _may_read_folders():
        import importlib.metadata

        return [*importlib.metadata.entry_points(group=group)]
    return [point for folder in _info_folders() for point in _points_of(folder, group)]


@functools.cache
def engine_version() -> str:
    """The installed version of nodegraph, or "0" if it runs from a folder without being installed."""
    return installed_version("nodegraph") or "0"


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None if there is none of this name."""
    if not _may_read_folders():
        import importlib.metadata

        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
        return None
    found = next((folder for folder in _info_folders() if _name_of(folder.path.name) == _normal(name)), None)
    return None if found is None else read_distribution(found).version


def read_distribution(distribution: Distribution) -> Installed:
    """Read what a distribution says about itself.

    Its description, which is as long as a README, is left out: `importlib.metadata` parses all of it, each time.
    """
    text = _text(distribution, "METADATA") or _text(distribution, "PKG-INFO")
    head = text.replace("\r\n", "\n").partition("\n\n")[0]
    fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head.split("\n"))]
    return Installed(
        name=next((value for name, value in fields if name == "name"), ""),
        version=next((value for name, value in fields if name == "version"), ""),
        requirements=[value for name, value in fields if name == "requires-dist"],
        url=_direct_url(distribution),
    )


def _may_read_folders() -> bool:
    """Whether the library is not imported so far, and would find nothing but folders."""
    return not (
        _LIBRARY in sys.modules
        or has_archives()
        or any(entry.endswith(".egg") for entry in sys.path)
        or any(hasattr(finder, "find_distributions") for finder in sys.meta_path if finder is not importlib.machinery.PathFinder)
    )


def _info_folders() -> Iterator[InfoFolder]:
    """The folder of each distribution. Of several with the same name, the first one counts, as for imports."""
    seen: set[str] = set()
    for entry in sys.path:
        names: list[str] = []
        with contextlib.suppress(OSError):
            names = os.listdir(entry or ".")  # noqa: PTH208 (it makes no path objects)
        for name in names:
            if name.lower().endswith(_ENDINGS) and (known := _name_of(name)) not in seen:
                seen.add(known)
                yield InfoFolder(Path(entry, name))


def _points_of(folder: InfoFolder, group: str) -> Iterator[ListedPoint]:
    header = f"[{group}]"
    try:
        with open(f"{folder.path}{os.sep}entry_points.txt", encoding="utf-8") as file:  # noqa: PTH123 (most have none)
            text = file.read()
    except OSError:
        return
    if header not in text:
        return
    section = ""
    for line in map(str.strip, text.splitlines()):
        if line.startswith("[") and line.endswith("]"):
            section = line
        elif section == header and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            yield ListedPoint(name.strip(), value.strip(), folder)


def _name_of(folder: str) -> str:
    """The normal name of the distribution with the folder of this name."""
    return _normal(folder.rpartition(".")[0].partition("-")[0])


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _direct_url(distribution: Distribution) -> Mapping[str, Any]:
    try:
        url = parse_json(_text(distribution, "direct_url.json") or "{}")
    except ValueError:
        return {}
    return url if isinstance(url, dict) else {}


def _text(distribution: Distribution, name: str) -> str:
    """One of the files about a distribution; "" if it is missing or cannot be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return distribution.read_text(name) or ""
    return ""
