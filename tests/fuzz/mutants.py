"""Faults to put into the engine: the fuzz test must find each of them."""

from __future__ import annotations

from collections.abc import Callable

MUTANTS: dict[str, Callable[[], None]] = {}
