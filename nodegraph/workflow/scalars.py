"""Single values as a workflow file writes them, in both directions.

Scalars are read by the core rules of YAML 1.2: `no` is text, `1e-4` is a number, `16:9` is text. A whole scalar `$node` or
`$node.port` is a link and `$params.name` a param, quoted or not; one more `$` in front makes it text: `$$node` is `$node`.
"""

from __future__ import annotations

import json
import math
import numbers
import os
import re
from pathlib import PurePath
from typing import Any, Final

from nodegraph.workflow.workflow import NAME, Link, ParamRef

_REFERENCE = re.compile(rf"\$({NAME.pattern})(?:\.({NAME.pattern}))?")
_ESCAPED = re.compile(rf"\$+{_REFERENCE.pattern}")
_INT = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_LONGEST_NUMBER: Final = 4300  # Python's own bound; reading a longer one takes quadratic time
_WORDS: Final = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys((".inf", ".Inf", ".INF", "+.inf", "+.Inf", "+.INF"), math.inf),
    **dict.fromkeys(("-.inf", "-.Inf", "-.INF"), -math.inf),
    **dict.fromkeys((".nan", ".NaN", ".NAN"), math.nan),
}
_OLD_WORDS = {"y", "n", "yes", "no", "on", "off"}  # booleans to readers of YAML 1.1: written in quotes
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*(?:[ :][A-Za-z0-9_./+-]+)*")
_ESCAPES = re.compile("[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]")
_LONGEST_KEY: Final = 1000  # a longer one needs a '?' (YAML 1.2.2, 7.4.2)


def read_scalar(text: str, *, quoted: bool) -> Any:
    """What a scalar says: a reference, a number, text, ... Raises ValueError for a number that is too long to read."""
    if text.startswith("$"):
        reference = _REFERENCE.fullmatch(text)
        if reference:
            owner, port = reference.groups()
            return ParamRef(port) if owner == "params" and port else Link(owner, port)
        return text[1:] if _ESCAPED.fullmatch(text) else text
    return text if quoted else core_value(text)


def is_null(text: str) -> bool:
    """Whether a plain scalar says nothing: `null`, `~`, or no character at all."""
    return _WORDS.get(text, text) is None


def core_value(text: str) -> Any:
    """A plain scalar by YAML 1.2's core rules. Raises ValueError for a number that is too long to read."""
    if text in _WORDS:
        return _WORDS[text]
    is_int = _INT.fullmatch(text)
    if not is_int and not _FLOAT.fullmatch(text):
        return text
    if len(text) > _LONGEST_NUMBER:
        raise ValueError(f"a number of {len(text):,} digits is too long")
    if not is_int:
        return float(text)
    return int(text, 0) if text[:2] in ("0o", "0x") else int(text)


def written(value: Any) -> str:
    """A value in YAML's flow style, on one line: what `read_scalar` reads back as the same.

    An object that YAML has no words for, given in Python, is named by its type: reading it back fails where it is used.
    """
    if isinstance(value, Link | ParamRef):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_written_key(str(key))}: {written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, str):
        text = str.__str__(value)
        return _written_text("$" + text if _REFERENCE.fullmatch(text) or _ESCAPED.fullmatch(text) else text)
    if isinstance(value, os.PathLike):
        return written(value.as_posix() if isinstance(value, PurePath) else os.fsdecode(value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, numbers.Integral):
        return repr(int(value))
    if isinstance(value, numbers.Real):
        number = float(value)
        return repr(number) if math.isfinite(number) else ".nan" if math.isnan(number) else ".inf" if number > 0 else "-.inf"
    return _written_text(f"<{type(value).__name__} given in Python>")


def _written_key(key: str) -> str:
    text = _written_text(str.__str__(key))
    return text if len(text) < _LONGEST_KEY else f"? {text} "


def _written_text(text: str) -> str:
    if _BARE.fullmatch(text) and text not in _WORDS and text.lower() not in _OLD_WORDS:
        return text
    return _ESCAPES.sub(lambda match: f"\\u{ord(match[0]):04x}", json.dumps(text, ensure_ascii=False))
