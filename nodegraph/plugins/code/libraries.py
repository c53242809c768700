"""The versions of installed libraries, by the names of the folders that installers leave beside them.

Reading the metadata of a few dozen distributions takes longer than a cached run; listing a folder does not.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

_ENDINGS: Final = (".dist-info", ".egg-info")
_WITHOUT_RESULTS: Final = frozenset({"nodegraph", "click", "pluggy", "pytest"})  # the engine, what it offers to plugins, and tests
_MOST_BYTES: Final = 4_000_000  # of a list of files


def versions_of_imported(files: Iterable[str]) -> list[str]:
    """The libraries that have these files, each in the form `name version`, sorted.

    A library without a version is listed with a digest of its file.
    """
    found, installed = set(), dict[str, Mapping[str, str]]()
    for file in files:
        folder, name = os.path.split(file.removesuffix(f"{os.sep}__init__.py"))
        name = name.removesuffix(".py")
        if name not in _WITHOUT_RESULTS:
            if folder not in installed:
                installed[folder] = _installed(folder)
            found.add(f"{name} {_version(folder, name, installed[folder]) or _digest(file)}")
    return sorted(found)


def versions_of_required(requirements: Iterable[str]) -> list[str]:
    """The installed distributions that `Requires-Dist` lines name, in the form `name version`, sorted; without those of extras."""
    installed: dict[str, str] = {}
    for entry in reversed(sys.path):
        if Path(entry).name in ("site-packages", "dist-packages"):
            installed |= _installed(entry)
    names = {_normal(match[0]) for line in requirements if "extra" not in line and (match := re.match(r"[\w.-]+", line))}
    return sorted(f"{name} {installed.get(name, 'none')}" for name in names - _WITHOUT_RESULTS)


def python_version() -> str:
    """The version of Python whose standard library nodes use, and how it optimizes: with `python -O`, assertions do not run."""
    optimized = f" -O{sys.flags.optimize}" if sys.flags.optimize else ""
    return f"python {sys.version_info[0]}.{sys.version_info[1]}{optimized}"


def _version(folder: str, name: str, installed: Mapping[str, str]) -> str | None:
    project = _normal(name)
    return installed.get(project if project in installed else _owner(folder, name, tuple(installed)) or "")


def _installed(folder: str) -> dict[str, str]:
    """The version of each distribution in a folder; without what only says how it was built, such as `+cpu`."""
    versions: dict[str, str] = {}
    with contextlib.suppress(OSError):
        for name in os.listdir(folder):  # noqa: PTH208 (it makes no path objects)
            if name.endswith(_ENDINGS):
                project, _, version = name.rpartition(".")[0].partition("-")
                versions[_normal(project)] = version.partition("+")[0].partition("-py")[0]
    return versions


@functools.lru_cache
def _owner(folder: str, name: str, projects: tuple[str, ...]) -> str | None:
    """The distribution whose list of files has the module `name`; None if there is none.

    Only lists of those that have no module of their own name are read, those with a similar name first: this runs at the start.
    """
    if not projects:
        return None
    modules = {_normal(entry.removesuffix(".py")) for entry in os.listdir(folder)}  # noqa: PTH208
    others = (project for project in projects if project not in modules)
    paths = {_normal(path.name.partition("-")[0]): path for path in Path(folder).glob("*-info")}
    beginnings = (f"\n{name}/".encode(), f"\n{name}.py".encode())
    for project in sorted(others, key=lambda project: (not project.startswith(name.lower()), project)):
        for listed in map(_file_list, (paths[project] / "RECORD", paths[project] / "top_level.txt")):
            if any(beginning in listed for beginning in beginnings) or f"\n{name}\n".encode() in listed:
                return project
    return None


def _file_list(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        if path.stat().st_size < _MOST_BYTES:
            return b"\n" + path.read_bytes() + b"\n"
    return b""


def _normal(name: str) -> str:
    return name.lower().replace("-", "_").replace(".", "_")


def _digest(file: str) -> str:
    try:
        return hashlib.sha256(Path(file).read_bytes()).hexdigest()
    except OSError:
        return "none"
