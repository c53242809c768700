"""How the commands of the cache show what they found."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from typing import Any, Final

from nodegraph.settings import written_size
from nodegraph.terminal import echo, echo_json

KEY_DIGITS: Final = 16

AGES: Final = {"w": 604800, "d": 86400, "h": 3600, "min": 60, "s": 1}


def print_facts(facts: Mapping[str, Any], as_json: bool, title: str | None = None) -> None:
    """Print names and values, one a line; bytes also in a larger unit."""
    if as_json:
        echo_json(json.dumps(facts))
        return
    if title:
        echo(title)
    for name, value in facts.items():
        shown = "unlimited" if value is None else value
        large = f"  ({written_size(value)})" if name in ("bytes", "left", "limit", "work") and value is not None else ""
        echo(f"{name.ljust(9)}  {shown}{large}")


def ago(when: float) -> str:
    """How long ago a time is, for people."""
    seconds = max(time.time() - when, 0)
    unit, count = next(((name, n) for name, n in AGES.items() if name != "w" and seconds >= n), ("s", 1))
    return f"{seconds // count:.0f} {unit} ago"
