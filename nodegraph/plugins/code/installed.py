"""Which modules belong to the standard library or to installed distributions, and where others may be."""

from __future__ import annotations

import contextlib
import importlib.machinery
import os
import site
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final

SUFFIXES: Final = tuple(importlib.machinery.all_suffixes())
"""Endings of files that are modules."""


MODULE: Final = "module "
"""The beginning of the names of modules, in what a result depends on. No path begins with it."""

NOT_THERE: Final = ""
"""Instead of the file of a module that an import has not found."""


def file_found(name: str) -> str | None:
    """The file that importing the module `name` would find in `sys.path`; None if there is none."""
    spec: importlib.machinery.ModuleSpec | None = None
    folders: list[str] | None = None
    whole = ""
    for part in name.split("."):
        whole = f"{whole}.{part}" if whole else part
        try:
            spec = importlib.machinery.PathFinder.find_spec(whole, folders) if part.isidentifier() else None
        except (ImportError, ValueError, OSError):
            return None
        if spec is None:
            return None
        folders = list(spec.submodule_search_locations or ())
    return spec.origin if spec is not None and spec.has_location else None


def file_on_disk(path: str) -> str:
    """The file that has the module with this `__file__`: the path itself, or the archive that contains it."""
    if os.path.isfile(path):  # noqa: PTH113
        return path
    return next((str(file) for file in Path(path).parents if file.is_file()), path)


def names_of_modules(folder: str) -> frozenset[str]:
    """The names of what is in a folder, and of the modules in it. Raises OSError if it cannot be read."""
    names = os.listdir(folder or ".")  # noqa: PTH208
    endings = (".py",) if is_installed_file(f"{folder}{os.sep}_") else SUFFIXES  # the compiled modules of libraries do not matter
    return frozenset((*names, *(name.partition(".")[0] for name in names if name.endswith(endings))))


def has_archives() -> bool:
    """Whether Python may import from an archive, whatever its name."""
    return any(os.path.isfile(entry) for entry in sys.path)  # noqa: PTH113


def sources_in_archive(path: Path) -> Iterator[bytes]:
    """The content of each Python file in an archive."""
    import zipfile  # rarely needed

    with contextlib.suppress(zipfile.BadZipFile), zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".py"):
                yield archive.read(name)


def hidden_standard_modules() -> set[str]:
    """The names of standard modules for which a folder that comes before the standard library has another module."""
    names: set[str] = set()
    for entry in sys.path:
        if is_installed_file(f"{entry}{os.sep}_") or entry.endswith(os.path.dirname(os.__file__)):  # noqa: PTH120
            break
        with contextlib.suppress(OSError):
            names |= names_of_modules(entry)
    return names & sys.stdlib_module_names - set(sys.builtin_module_names)


def has_other_modules() -> bool:
    """Whether there may be modules to import outside the standard library and installed distributions."""
    for entry in map(os.path.abspath, sys.path):
        if not is_installed_file(f"{entry}{os.sep}_"):
            try:
                names = os.listdir(entry)  # noqa: PTH208
            except OSError:
                names = [f"{entry}.py"] if os.path.isfile(entry) else []  # noqa: PTH113 (an archive)
            if not any(name.endswith(".dist-info") for name in names):
                for name in names:
                    if name.endswith(SUFFIXES) or (name.isidentifier() and os.path.isdir(f"{entry}{os.sep}{name}")):  # noqa: PTH112
                        return True
    return any(str(getattr(finder, "__module__", "")).startswith("__editable__") for finder in sys.meta_path)


def is_installed(path: Path) -> bool:
    """Whether a file or folder belongs to the standard library or to an installed distribution, by its place."""
    return is_installed_file(str(path / "_"))


def is_installed_file(path: str) -> bool:
    """`is_installed` of the file at `path`."""
    return path.startswith(_installed_folders()) or "/site-packages/" in path or "/dist-packages/" in path


@cache
def _installed_folders() -> tuple[str, ...]:
    folders = [os.path.dirname(os.__file__), *site.getsitepackages()]  # noqa: PTH120
    return tuple(f"{folder}{os.sep}" for folder in dict.fromkeys(folders))
