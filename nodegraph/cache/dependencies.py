"""What results depend on besides their keys: modules that nodes imported, and the codecs that values passed through.

They are mappings: the SHA-256 of each module by its path, the file of each top-level one in `sys.path` by its name after
`MODULE`, and the stored name of each codec after `CODEC`.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

CODEC: Final = "codec "
"""The beginning of the names of codecs. No path begins with it."""

NOTHING: Final[Mapping[str, str]] = {}

_DIFFERS: Final = "differs"  # no file has this digest


def with_codecs(imports: Mapping[str, str], names: Collection[str]) -> Mapping[str, str]:
    """These modules, and the codecs with these stored names."""
    return {**imports, **{f"{CODEC}{name}": "" for name in sorted(names)}} if names else imports


def joined(first: Mapping[str, str], second: Mapping[str, str]) -> Mapping[str, str]:
    """All that is in one of two mappings. What differs between them is never found the same again."""
    if not second or first is second:
        return first
    if first.items() >= second.items():
        return first
    differing = {name: _DIFFERS for name in first.keys() & second.keys() if first[name] != second[name]}
    return {**first, **second, **differing}
