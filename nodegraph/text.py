"""Text for people: suggestions for misspelt names, paths as a person would type them."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_MIN_PREFIX: Final = 3
"""A name of at least this many letters is completed to the only known name that begins with it."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The question whether the name that is closest was meant; "" where none is close.

    One that the words of `name` begin with goes before one that is spelt alike: 'DPM++ 2M Karras' is a 'DPM++ 2M', and no
    'DPM++ 2M SDE'. The only one that begins with `name` is close, however long.
    """
    by_folded = {k.casefold(): k for k in known}
    folded = name.casefold()
    close = sorted((k for k in by_folded if f"{folded} ".startswith(f"{k} ")), key=len, reverse=True)
    close = close or difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.65)
    if not close and len(folded) >= _MIN_PREFIX:
        begun = [k for k in by_folded if k.startswith(folded)]
        close = begun if len(begun) == 1 else []
    return f"Did you mean '{by_folded[close[0]]}'?" if close else ""


def sentence(text: str) -> str:
    """`text` with a full stop, if nothing ends it yet."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def shown(path: Path | str) -> str:
    """A path as a person would type it from here: relative where it lies below the current directory."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # no current directory any more; another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative
