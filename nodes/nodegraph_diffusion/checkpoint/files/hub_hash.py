"""Whether files that the hub's library downloaded hold what the hub says.

The library checks sizes, not contents. In its cache, a file is a link to one that is named by its hash: SHA-256 for large files,
Git's SHA-1 for others. If links are not possible, as on some Windows systems, the name does not show it, and nothing is checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

_CHUNK = 1 << 20


def first_other(fetched: Path, expected: Mapping[str, str]) -> tuple[str, str, str] | None:
    """A file of what was fetched that has another SHA-256 than `expected`: its name, what was expected, and what was found.

    `expected` has the names of the files in a folder; that of a single file may be any. None: there is no such file.
    """
    files = {name: fetched / name for name in expected}
    if fetched.is_file() and len(expected) == 1:
        files, expected = {fetched.name: fetched}, dict.fromkeys([fetched.name], *expected.values())
    for name, file in files.items():
        if file.is_file() and (found := _sha256(file)) != expected[name]:
            return name, expected[name], found
    return None


def _sha256(path: Path) -> str:
    """The SHA-256 of a file of the cache, whose content was compared with its name when it was downloaded."""
    name = path.resolve().name
    if re.fullmatch(r"[0-9a-f]{64}", name):
        return name
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_damaged(files: Iterable[Path]) -> list[Path]:
    """The downloaded files whose content has another hash than the hub says. They are removed, so that they are fetched again."""
    damaged = [file for file in files if file.is_file() and not _is_whole(file.resolve())]
    for file in damaged:
        file.resolve().unlink(missing_ok=True)
        file.unlink(missing_ok=True)
    return damaged


def _is_whole(blob: Path) -> bool:
    """Whether a file of the cache has the hash that it is named by; also if its name is not one."""
    if re.fullmatch(r"[0-9a-f]{64}", blob.name):
        content = hashlib.sha256()
    elif re.fullmatch(r"[0-9a-f]{40}", blob.name):
        content = hashlib.sha1(b"blob %d\0" % blob.stat().st_size, usedforsecurity=False)  # as Git does
    else:
        return True
    with blob.open("rb") as file:
        while chunk := file.read(_CHUNK):
            content.update(chunk)
    return content.hexdigest() == blob.name
