"""Switches of NumPy and Pillow that results depend on: how NumPy writes arrays as text, and whether Pillow reads half a picture."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Final

_KNOWN: Final[dict[str, Any]] = {
    "edgeitems": 3,
    "threshold": 1000,
    "floatmode": "maxprec",
    "precision": 8,
    "suppress": False,
    "linewidth": 75,
    "nanstr": "nan",
    "infstr": "inf",
    "sign": "-",
    "formatter": None,
    "legacy": False,
    "override_repr": None,
}
"""NumPy's defaults for its options of printing. Some versions lack some of them."""

_format: ContextVar[dict[str, Any]] | None = None  # in which NumPy keeps its options
_raw_known: dict[str, Any] = {}  # the options in it that are known to be the defaults
_truncated: Any = False  # Pillow's switch before nodes ran


def enter_known_printing() -> dict[str, Any] | None:
    """Give NumPy's options of printing their default values. Returns those before; None if NumPy is not imported.

    A library that is not imported has its defaults once it is.
    """
    if _format is not None and _format.get() == _raw_known:  # takes a third of the time
        return _KNOWN
    numpy: Any = sys.modules.get("numpy")
    if not hasattr(numpy, "set_printoptions"):  # not imported, or another thread is importing it
        return None
    before: dict[str, Any] = numpy.get_printoptions()
    _write(numpy, before, {name: _KNOWN.get(name, value) for name, value in before.items()})
    _remember_format(numpy)
    return before


def leave_known_printing(before: dict[str, Any] | None) -> None:
    """Give NumPy's options of printing the values of before, whatever the node did."""
    if before is None or (before is _KNOWN and _format is not None and _format.get() == _raw_known):
        return
    numpy: Any = sys.modules["numpy"]
    now = numpy.get_printoptions()
    _write(numpy, now, {name: before.get(name, value) for name, value in now.items()})


def _write(numpy: Any, now: dict[str, Any], wanted: dict[str, Any]) -> None:
    if now != wanted:
        numpy.set_printoptions(**wanted)


def _remember_format(numpy: Any) -> None:
    """Find where NumPy keeps its options, which have their defaults now."""
    global _format, _raw_known
    found = getattr(sys.modules.get("numpy._core.printoptions"), "format_options", None)
    if isinstance(found, ContextVar) and {**found.get(), "legacy": False} == numpy.get_printoptions():
        _format, _raw_known = found, dict(found.get())


def _image_file() -> ModuleType | None:
    module = sys.modules.get("PIL.ImageFile")
    return module if hasattr(module, "LOAD_TRUNCATED_IMAGES") else None


def enter_whole_pictures() -> None:
    """Let Pillow refuse pictures that end too early. Called before nodes run; nodes that run at the same time share the switch."""
    global _truncated
    module = _image_file()
    _truncated = getattr(module, "LOAD_TRUNCATED_IMAGES", False)
    if _truncated:
        setattr(module, "LOAD_TRUNCATED_IMAGES", False)  # noqa: B010 (mypy does not know it)


def leave_whole_pictures() -> None:
    """Give Pillow's switch the value of before. Called once no node runs any more."""
    if (module := _image_file()) is not None:
        setattr(module, "LOAD_TRUNCATED_IMAGES", _truncated)  # noqa: B010
