"""Counts changes of state that all nodes share: one that a node makes while others run may change what these compute."""

from __future__ import annotations

_count = 0


def note_shared_change() -> None:
    """Note that code changed state of the process while several nodes ran. None of their results is kept."""
    global _count
    _count += 1


def shared_changes() -> int:
    """How many changes were noted so far."""
    return _count
