"""The files that are part of a plugin's code, and what they contain."""

from __future__ import annotations

import contextlib
import fnmatch
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from nodegraph.files import FileState, file_states

_TOOLS: Final = (".git", ".hg", ".svn", ".idea", ".vscode", ".venv", ".tox", ".nox", ".DS_Store")
_CACHES: Final = ("__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis")
_NO_CODE: Final = frozenset((*_TOOLS, *_CACHES))
_WILDCARDS: Final = frozenset("*?[")
_SWAP_FILES: Final = ("swp", "swo", "swx", "#")  # hidden files of editors that are open


def read_file(path: str) -> tuple[bytes, FileState]:
    """The content of a file and its state. This runs for each file of code at every start: it makes no path and file objects."""
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    try:
        stat = os.fstat(descriptor)
        content = os.read(descriptor, stat.st_size + 1)
        while more := os.read(descriptor, 1 << 20) if len(content) > stat.st_size else b"":
            content += more
    finally:
        os.close(descriptor)
    return content, FileState.from_stat(stat)


def matcher(patterns: Iterable[str]) -> Callable[[str], bool]:
    """A function that tells whether a name matches one of the patterns, as `fnmatch.fnmatch` does.

    Most patterns are a name or the ending of one. These are compared, as making regular expressions at every start is slow.
    """
    normal = [os.path.normcase(pattern) for pattern in patterns]
    names = {pattern for pattern in normal if _WILDCARDS.isdisjoint(pattern)}
    endings = tuple(pattern[1:] for pattern in normal if pattern[:1] == "*" and _WILDCARDS.isdisjoint(pattern[1:]))
    others = [pattern for pattern in normal if not (pattern in names or (pattern[:1] == "*" and pattern[1:] in endings))]

    def matches(name: str) -> bool:
        name = os.path.normcase(name)
        return name in names or name.endswith(endings) or any(fnmatch.fnmatchcase(name, pattern) for pattern in others)

    return matches


def file_states_below(root: Path) -> Mapping[Path, FileState | None]:
    """The current state of the file `root`, or of the files below this folder that are part of a plugin's code."""
    return file_states(root.parent / name for name in file_names(root))


def file_names(root: Path) -> list[str]:
    """The file `root`, or the files in this folder and below, without bytecode, and caches and hidden files of tools.

    The names are relative to the folder that contains `root`, with "/". Links to folders are followed, but not back into a folder
    that contains them. This runs at every start: it makes no path objects.
    """
    if root.is_file():
        return [root.name]
    folder, names, pending = str(root.parent), [], [(root.name, frozenset[str]())]
    while pending:
        parent, linked = pending.pop()
        with contextlib.suppress(PermissionError), os.scandir(f"{folder}/{parent}") as entries:
            for entry in entries:
                if entry.name in _NO_CODE or (entry.name.startswith(".") and entry.name.endswith(_SWAP_FILES)):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append((f"{parent}/{entry.name}", linked))
                elif entry.is_file():
                    names.append(f"{parent}/{entry.name}")
                elif entry.is_symlink() and entry.is_dir():
                    target = os.path.realpath(entry.path)
                    above = os.path.realpath(f"{folder}/{parent}")
                    if target not in linked and not f"{above}/".startswith(f"{target}/"):
                        pending.append((f"{parent}/{entry.name}", linked | {target}))
    return sorted(names, key=lambda name: name.split("/"))
