"""Which numbers of a file can be part of a workflow."""

from __future__ import annotations

import math
from typing import Any


def is_usable(value: Any) -> bool:
    """Whether a value is no NaN, no infinity, and no number of hundreds of digits."""
    if isinstance(value, float):
        return math.isfinite(value)
    return not isinstance(value, int) or isinstance(value, bool) or abs(value) < 1 << 64
