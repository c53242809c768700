"""Text for people: suggestions for misspelt names, values, numbers and paths as messages show them, parts of file names."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

_MIN_PREFIX: Final = 3
"""A name of at least this many letters is completed to the only known name that begins with it."""

_COMPARED: Final = 8
"""How many names of a similar spelling are compared by their words."""

_LONGEST: Final = 60  # characters of a value in a message
_LONG_BITS: Final = 10_000  # of a whole number that Python may refuse to write with decimal digits
_LONGEST_NAME: Final = 80  # bytes of a value in a file name
_NOT_IN_NAMES: Final = r'[<>:"/\\|?*\x00-\x1f\x7f\ud800-\udfff]+'


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Ask whether the known name that is closest to `name` was meant; "" if none is close."""
    close = closest(name, known)
    return f"Did you mean '{close}'?" if close is not None else ""


def closest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is closest to `name`; None if none is close.

    A known name that the words of `name` begin with comes before one with a similar spelling: 'DPM++ 2M Karras' means 'DPM++ 2M',
    not 'DPM++ 2M SDE'. Of names with a similar spelling, one that shares whole words with `name` is closer: 'ddpm_2m' means
    'dpmpp_2m', not 'dpm_2'. A known name that alone begins with `name` is close, however long it is.
    """
    by_folded = {k.casefold(): k for k in known}
    folded = name.casefold()
    close = sorted((k for k in by_folded if f"{folded} ".startswith(f"{k} ")), key=len, reverse=True)
    if not close:
        import difflib  # only here: most commands find every name

        similar = difflib.get_close_matches(folded, by_folded, n=_COMPARED, cutoff=0.65)
        close = sorted(similar, key=lambda k: -difflib.SequenceMatcher(None, k, folded).ratio() - _shared_words(k, folded) / 4)
    if not close and len(folded) >= _MIN_PREFIX:
        begun = [k for k in by_folded if k.startswith(folded)]
        close = begun if len(begun) == 1 else []
    return by_folded[close[0]] if close else None


def either(names: Iterable[str]) -> str:
    """Names as alternatives: 'a', 'b' or 'c'."""
    *first, last = (f"'{name}'" for name in names)
    return f"{', '.join(first)} or {last}" if first else last


def sentence(text: str) -> str:
    """`text` with a full stop, unless it already ends like a sentence."""
    return text if text.endswith((".", "?", "!")) else f"{text}."


def shortened(text: str, longest: int = _LONGEST) -> str:
    """`text`, or its beginning and "..." if it has more than `longest` characters."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def described(value: Any) -> str:
    """`value` as a message shows it: text in quotes, `nothing` for None, `true`; at most 60 characters."""
    return shortened(_described(value))


def number(value: float) -> str:
    """A number as a person writes it: 11 instead of 11.0."""
    return repr(int(value)) if isinstance(value, float) and value.is_integer() and abs(value) < 1e15 else repr(value)


def as_file_name(value: Any) -> str:
    """`value` as part of a file name that every platform allows: never empty, no separators, no reserved characters."""
    text = repr(value).lower() if isinstance(value, bool) else str(value)
    text = re.sub(_NOT_IN_NAMES, "_", " ".join(text.split()))
    return text.encode(errors="replace")[:_LONGEST_NAME].decode(errors="ignore").strip(". ") or "_"


def relative_path(path: Path | str) -> str:
    """A path as a person would type it: relative to the current directory if it is below it."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):  # the current directory is gone; another drive
        return str(path)
    return str(path) if relative.startswith("..") else relative


def _shared_words(name: str, other: str) -> float:
    """The share of words that two names have in common."""
    words, others = (set(re.split(r"[\W_]+", text)) for text in (name, other))
    return len(words & others) / len(words | others)


def _described(value: Any) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return repr(value).lower()
    if type(value) in (list, tuple):
        return f"[{', '.join(map(_described, value))}]"
    if type(value) is dict:
        return "{" + ", ".join(f"{key}: {_described(item)}" for key, item in value.items()) + "}"
    if isinstance(value, int) and value.bit_length() > _LONG_BITS:
        return hex(value)
    return repr(value)
