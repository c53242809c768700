"""The objects of a shared store, by name.

    blobs/ab/<sha256 of the file><suffix>             values and exported files
    records/ab/<content key>.json                     a node's result
    exports/ab/<digest of a value><extension>.json    the files that a value was exported to
    signed-<key>/records/..., signed-<key>/exports/...  the same, for those who have the signing key with this number
    models/ab/<sha256>                                a file, such as a model, that was sent to workers
    claims/ab/<content key>                           who computes a key now
    leases/<holder>                                   rewritten every few seconds as long as a holder of claims lives
    nodegraph.json                                    marks the store

Static keys have no objects: what they stand for cannot be checked, and a wrong one would hide everything above it.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

from nodegraph.cache.store.layout import BLOB, KEY

MARK: Final = "nodegraph.json"
MARK_CONTENT: Final = b'{"nodegraph": "cache", "format": 1}\n'

_SPACE: Final = r"(?:(signed-[0-9a-f]{16})/)?"
_PATTERNS: Final = {
    "blobs": re.compile(rf"blobs/([0-9a-f]{{2}})/(?P<name>{BLOB.pattern})"),
    "records": re.compile(rf"{_SPACE}records/([0-9a-f]{{2}})/(?P<name>{KEY.pattern})\.json"),
    "exports": re.compile(rf"{_SPACE}exports/([0-9a-f]{{2}})/(?P<name>{KEY.pattern}(\.[A-Za-z0-9]+)*)\.json"),
    "models": re.compile(rf"models/([0-9a-f]{{2}})/(?P<name>{KEY.pattern})"),
    "claims": re.compile(rf"claims/([0-9a-f]{{2}})/(?P<name>{KEY.pattern})"),
    "leases": re.compile(r"leases/(?P<name>[0-9a-f]{32})"),
}


class ObjectName(NamedTuple):
    """What an object is: the folder of its kind, such as "blobs", its name there, and the space of those with one signing key."""

    kind: str
    name: str
    space: str


def blob(name: str) -> str:
    return f"blobs/{name[:2]}/{name}"


def record(space: str, key: str) -> str:
    return f"{space}records/{key[:2]}/{key}.json"


def export(space: str, digest: str, extension: str) -> str:
    return f"{space}exports/{digest[:2]}/{digest}{extension}.json"


def model(digest: str) -> str:
    return f"models/{digest[:2]}/{digest}"


def claim(key: str) -> str:
    return f"claims/{key[:2]}/{key}"


def lease(holder: str) -> str:
    return f"leases/{holder}"


def parse(path: str) -> ObjectName | None:
    """What the object with this name is; None if nodegraph does not write such objects."""
    for kind, pattern in _PATTERNS.items():
        match = pattern.fullmatch(path)
        if match is not None:
            name, groups = match["name"], match.groups()
            space = f"{groups[0]}/" if kind in ("records", "exports") and groups[0] else ""
            folder = path.rsplit("/", 2)[-2]
            return ObjectName(kind, name, space) if kind == "leases" or folder == name[:2] else None
    return None
