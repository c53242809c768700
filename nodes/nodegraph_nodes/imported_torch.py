"""Torch, if this process has imported it."""

from __future__ import annotations

import sys
from typing import Any


def imported_torch() -> Any:
    """The module torch; None if it is not imported, or if another thread is importing it: then no value of it exists yet."""
    torch = sys.modules.get("torch")
    return None if torch is None or getattr(torch.__spec__, "_initializing", False) else torch
