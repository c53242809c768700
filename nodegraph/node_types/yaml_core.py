"""Values without quotes, read and written by the core rules of YAML 1.2: `no` is text, `1e-4` is a number, `16:9` is text."""

from __future__ import annotations

import math
import re
from typing import Any, Final

WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
"""The words that are not text."""

_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
LONGEST_NUMBER: Final = 4300
"""How many characters a number may have. This is Python's own limit; reading a longer one takes quadratic time."""


def core_value(text: str) -> Any:
    """The value of a scalar without quotes. Raises ValueError for a number that is too long to read."""
    if text in WORDS:
        return WORDS[text]
    is_int = _INT.fullmatch(text)
    if not is_int and not _FLOAT.fullmatch(text):
        return text
    if len(text) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text):,} digits is too long")
    if not is_int:
        return float(text)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def core_text(value: bool | float | None) -> str:
    """How `value` is written: `core_value` reads it back as the same value."""
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int) or math.isfinite(value):
        return repr(value)
    return ".nan" if math.isnan(value) else ".inf" if value > 0 else "-.inf"


def is_null(text: str) -> bool:
    """Whether a scalar without quotes is null: `null`, `~`, or empty."""
    return WORDS.get(text, text) is None
