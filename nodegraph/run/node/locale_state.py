"""The locale of the process while nodes run: numbers are written with a point, whatever the program around the engine set."""

from __future__ import annotations

import _locale
from typing import Final

_KNOWN: Final = "C"
_before: str | None = None  # what the program had set when the first of the nodes that run now began, if it was something else


def enter_known_locale(*, others_run: bool) -> None:
    """Let numbers be written as in "C". `others_run`: other nodes run now."""
    global _before
    found = _locale.setlocale(_locale.LC_NUMERIC)
    if found != _KNOWN:
        if not others_run:
            _before = found
        _locale.setlocale(_locale.LC_NUMERIC, _KNOWN)


def leave_known_locale(*, others_run: bool) -> bool:
    """Restore the program's own locale if no other node runs. Returns whether a node had changed it."""
    global _before
    was_changed = _locale.setlocale(_locale.LC_NUMERIC) != _KNOWN
    if not others_run and (was_changed or _before is not None):
        _locale.setlocale(_locale.LC_NUMERIC, _before or _KNOWN)
        _before = None
    return was_changed and not others_run
