"""Paths as a file may hold them that others read, or that is read in another folder: none of them names the user's home folder."""

from __future__ import annotations

import os
import re
from pathlib import Path, PurePath
from typing import Final

from nodegraph.node_types.spec import under

_WILDCARD: Final = re.compile(r"[*?\[]")


def portable(text: str, base: Path, start: Path) -> str:
    """Text that names files, whose relative paths start from `base`, as it is written where they start from `start`.

    A relative path stays relative, unless that would lead through the user's home folder: such a path, and an absolute one in the
    home folder, begin with `~`. Text that is not the path of something that exists, such as an address, stays as it is.
    """
    try:
        path = Path(os.path.normpath(under(base, text)))
        if not os.path.lexists(_first_part(path)):
            return text
        home = Path(os.path.normpath(Path.home()))
    except (OSError, RuntimeError, ValueError):  # text that cannot be a path; no home folder
        return text
    is_absolute = Path(text).is_absolute() or text.startswith("~")
    if is_absolute:
        return _below_home(path, home) or path.as_posix()
    try:
        relative = os.path.relpath(path, start)
    except ValueError:  # another drive
        return _below_home(path, home) or path.as_posix()
    below = _below_home(path, home) if relative.startswith("..") else None
    if below is not None and not Path(os.path.normpath(start)).is_relative_to(home):
        return below
    return PurePath(relative).as_posix()


def _below_home(path: Path, home: Path) -> str | None:
    return f"~/{path.relative_to(home).as_posix()}" if path.is_relative_to(home) else None


def _first_part(path: Path) -> Path:
    """The path up to the folder above the first part with a wildcard."""
    parts = path.parts
    index = next((k for k, part in enumerate(parts) if _WILDCARD.search(part)), len(parts))
    return path if os.path.lexists(path) else Path(*parts[:index])
