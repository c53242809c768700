"""Numbers of bytes, as people write and read them."""

from __future__ import annotations

import re
from typing import Final

from nodegraph.text import described

UNLIMITED: Final = "unlimited"

_UNITS: Final[dict[str, int]] = {"": 1, "b": 1} | {
    prefix + end: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for end, base in (("", 1000), ("b", 1000), ("ib", 1024))
}
_LARGE: Final = ((1e9, "GB"), (1e6, "MB"), (1e3, "kB"))
_SIZE: Final = r"(\d+(?:\.\d+)?)\s*([a-z]*)"


def parse_size(value: int | str) -> int | None:
    """Bytes from a number or from text such as "20 GB", "512 MiB" or "unlimited" (None). Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = str(value).strip().lower()
    if text == UNLIMITED:
        return None
    match = re.fullmatch(_SIZE, text)
    if isinstance(value, bool) or not match or match[2] not in _UNITS:
        raise ValueError(
            f"expected a number of bytes, a size such as '20 GB' or '512 MiB', or '{UNLIMITED}', found {described(value)}"
        )
    return round(float(match[1]) * _UNITS[match[2]])


def written_size(count: int) -> str:
    """A number of bytes for people, such as "1.5 GB"."""
    return next((f"{count / unit:.1f} {name}" for unit, name in _LARGE if count >= unit), f"{count} B")
