"""The locale of the process while code of plugins runs: numbers are written with a point, whatever the program set."""

from __future__ import annotations

import _locale
import os
import sys
import threading
from typing import Final

from nodegraph.plugins.state.shared_changes import note_shared_change

_setlocale, _NUMBERS = _locale.setlocale, _locale.LC_NUMERIC  # names of the module, since this runs for every node
_KNOWN: Final = "C"
_before: str | None = None  # what the program had set when the first of the blocks that run now began, if it was something else
_blocks = 0  # that run now, such as nodes

lock = threading.Lock()
"""Held by the callers of these functions. A process that was forked has another one."""


def enter_known_locale() -> None:
    """Let numbers be written as in "C"."""
    global _before, _blocks
    found = _setlocale(_NUMBERS)
    if found != _KNOWN:
        if _blocks:
            note_shared_change()
        else:
            _before = found
        _setlocale(_NUMBERS, _KNOWN)
    _blocks += 1


def leave_known_locale() -> bool:
    """Restore the program's own locale if this is the last block, else the known one. Returns whether a block had changed it."""
    global _before, _blocks
    _blocks -= 1
    was_changed = _setlocale(_NUMBERS) != _KNOWN
    if _blocks:
        if was_changed:
            note_shared_change()
            _setlocale(_NUMBERS, _KNOWN)
    elif was_changed or _before is not None:
        _setlocale(_NUMBERS, _before or _KNOWN)
        _before = None
    return was_changed


def encoding_of_text() -> str:
    """The encoding of text files that are opened without naming one; "" for UTF-8."""
    if sys.flags.utf8_mode:
        return ""
    name = _locale.getencoding()
    return "" if name.replace("-", "").replace("_", "").lower() == "utf8" else name


def _forget_blocks() -> None:
    """In a process that was forked while blocks ran: their threads are not in it, and one of them may have held the lock."""
    global lock, _blocks
    lock, _blocks = threading.Lock(), 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_blocks)
