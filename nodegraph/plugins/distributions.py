"""What an installed distribution says about itself."""

from __future__ import annotations

import contextlib
import importlib.metadata
from collections.abc import Mapping
from typing import Any, NamedTuple

from nodegraph.files import parse_json


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


def read_distribution(distribution: importlib.metadata.Distribution) -> Installed:
    """Read what a distribution says about itself.

    Its description, which is as long as a README, is left out: `distribution.metadata` parses all of it, each time.
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


def _direct_url(distribution: importlib.metadata.Distribution) -> Mapping[str, Any]:
    try:
        url = parse_json(_text(distribution, "direct_url.json") or "{}")
    except ValueError:
        return {}
    return url if isinstance(url, dict) else {}


def _text(distribution: importlib.metadata.Distribution, name: str) -> str:
    """One of the files about a distribution; "" if it is missing or cannot be read."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        return distribution.read_text(name) or ""
    return ""
