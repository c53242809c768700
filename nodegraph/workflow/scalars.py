"""Single values as a workflow file writes them, in both directions.

Scalars are read by the core rules of YAML 1.2 (`nodegraph.node_types.yaml_core`). A whole scalar `$node` or `$node.port` is a link
and `$params.name` a param, quoted or not; one more `$` in front makes it text: `$$node` is the text `$node`.
"""

from __future__ import annotations

import json
import numbers
import os
import re
from pathlib import PurePath
from typing import Any, Final

from nodegraph.node_types.yaml_core import LONGEST_NUMBER, WORDS, core_text, core_value
from nodegraph.workflow.definitions import NAME, PARAMS, Link, ParamRef

_REFERENCE = re.compile(rf"\$({NAME.pattern})(?:\.({NAME.pattern}))?")
_ESCAPED = re.compile(rf"\$+{_REFERENCE.pattern}")
_OLD_WORDS = {"y", "n", "yes", "no", "on", "off"}  # booleans in YAML 1.1: written in quotes
_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_./+-]*(?:[ :][A-Za-z0-9_./+-]+)*")
_ESCAPES: Final = "[\x7f-\xa0\u2028\u2029\ud800-\udfff\ufeff\ufffe\uffff]"  # rarely needed, and slow to compile
_GIVEN: Final = " given in Python>"
_LONGEST_KEY: Final = 1000  # a longer one needs a '?' (YAML 1.2.2, 7.4.2)
_HUGE: Final = 10**LONGEST_NUMBER

LEVELS: Final = 56
"""How many lists and mappings in each other a value may have: a file has at most 64, with those around the value."""


class _NoneKey:
    """Stands for the key None of a mapping."""

    def __repr__(self) -> str:
        return "the key None"


NONE_KEY: Final = _NoneKey()


def read_scalar(text: str, *, quoted: bool) -> Any:
    """The value of a scalar: a reference, a number, text, ... Raises ValueError for a number that is too long to read."""
    if text.startswith("$"):
        reference = _REFERENCE.fullmatch(text)
        if reference:
            owner, port = reference.groups()
            return ParamRef(port) if owner == PARAMS and port else Link(owner, port)
        return text[1:] if _ESCAPED.fullmatch(text) else text
    return text if quoted else core_value(text)


def as_yaml(value: Any) -> str:
    """A value in YAML's flow style, on one line. Reading it gives the same value.

    An object given in Python that YAML cannot express is written as its type's name; reading that fails where it is used.
    """
    if isinstance(value, Link | ParamRef):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(str(key))}: {as_yaml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(as_yaml, value)) + "]"
    if isinstance(value, str):
        text = str.__str__(value)
        return _text("$" + text if _REFERENCE.fullmatch(text) or _ESCAPED.fullmatch(text) else text)
    if isinstance(value, os.PathLike):
        return as_yaml(value.as_posix() if isinstance(value, PurePath) else os.fsdecode(value))
    if value is None or isinstance(value, bool):
        return core_text(value)
    if isinstance(value, numbers.Integral):
        return core_text(int(value))
    if isinstance(value, numbers.Real):
        return core_text(float(value))
    return _text(f"<{type(value).__name__}{_GIVEN}")


def unwritable(value: Any, *, levels: int = LEVELS) -> Any:
    """The first part of `value` that `as_yaml` cannot write so that it is read as the same, and None if it can write all of it.

    The part is `value` itself if it has more than `levels` levels.
    """
    if isinstance(value, dict | list | tuple) and levels == 0:
        return value
    if isinstance(value, dict):
        keys = (NONE_KEY if key is None else key for key in value if not isinstance(key, str) or _unreadable(key))
        parts = (part for item in value.values() if (part := unwritable(item, levels=levels - 1)) is not None)
        key = next(keys, None)
        return key if key is not None else next(parts, None)
    if isinstance(value, list | tuple):
        return next((part for item in value if (part := unwritable(item, levels=levels - 1)) is not None), None)
    if isinstance(value, str | os.PathLike):
        return value if _unreadable(os.fspath(value)) else None
    if isinstance(value, numbers.Integral):
        return value if abs(int(value)) >= _HUGE else None
    if isinstance(value, numbers.Real):
        return None if _is_float(value) else value
    return None if isinstance(value, Link | ParamRef | None) else value


def _is_float(value: numbers.Real) -> bool:
    """Whether a number of another type, such as NumPy's, is one of Python's floating-point numbers."""
    try:
        return float(value) == value or value != value
    except OverflowError:
        return False


def _unreadable(text: str | bytes) -> bool:
    """Whether a text has half of a pair of surrogates, which YAML does not allow even as an escape."""
    return not text.isascii() and re.search("[\ud800-\udfff]", os.fsdecode(text)) is not None


def not_written(value: Any) -> str | None:
    """The name of the type of an object given in Python that `as_yaml` could not write, if `value` is what it wrote instead."""
    return value[1:].removesuffix(_GIVEN) if isinstance(value, str) and value.endswith(_GIVEN) and value[:1] == "<" else None


def _key(key: str) -> str:
    text = _text(str.__str__(key))
    return text if len(text) < _LONGEST_KEY else f"? {text} "


def _text(text: str) -> str:
    if _BARE.fullmatch(text) and text not in WORDS and text.lower() not in _OLD_WORDS:
        return text
    quoted = json.dumps(text, ensure_ascii=False)
    if quoted.isascii() and "\x7f" not in quoted:
        return quoted
    return re.sub(_ESCAPES, lambda match: f"\\u{ord(match[0]):04x}", quoted)
