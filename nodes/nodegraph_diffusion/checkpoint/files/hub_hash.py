"""Whether files that the hub's library downloaded hold what the hub says.

The library checks sizes, not contents. In its cache, a file is a link to one that is named by its hash: SHA-256 for large files,
Git's SHA-1 for others. If links are not possible, as on some Windows systems, the name does not show it, and nothing is checked.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

_CHUNK = 1 << 20


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
