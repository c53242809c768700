"""Switches of NumPy and Pillow that results depend on: how NumPy writes arrays as text, and whether Pillow reads half a picture."""

from __future__ import annotations

import sys
import threading
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

_lock = threading.Lock()
_nodes = 0  # that run now
_truncated: Any = False  # Pillow's switch when the first of them began


def enter_known_libraries() -> dict[str, Any] | None:
    """Give the switches their default values. Returns the options of printing before; None if NumPy is not imported.

    Libraries that are not imported have their defaults once they are. Nodes that run at the same time share Pillow's switch.
    """
    numpy: Any = sys.modules.get("numpy")
    before = numpy.get_printoptions() if hasattr(numpy, "set_printoptions") else None  # otherwise another thread is importing it
    _enter()
    if before is not None and before != _KNOWN:
        _write(numpy, before, {name: _KNOWN.get(name, value) for name, value in before.items()})
    return before


def leave_known_libraries(before: dict[str, Any] | None) -> None:
    """Give the switches the values of before, whatever the node did."""
    if before is not None:
        numpy: Any = sys.modules["numpy"]
        _write(numpy, numpy.get_printoptions(), before)
    _leave()


def _write(numpy: Any, now: dict[str, Any], wanted: dict[str, Any]) -> None:
    if now != wanted:
        numpy.set_printoptions(**wanted)


def _image_file() -> ModuleType | None:
    module = sys.modules.get("PIL.ImageFile")
    return module if hasattr(module, "LOAD_TRUNCATED_IMAGES") else None


def _enter() -> None:
    global _nodes, _truncated
    with _lock:
        if _nodes == 0:
            module = _image_file()
            _truncated = getattr(module, "LOAD_TRUNCATED_IMAGES", False)
            if _truncated:
                setattr(module, "LOAD_TRUNCATED_IMAGES", False)  # noqa: B010 (mypy does not know it)
        _nodes += 1


def _leave() -> None:
    global _nodes
    with _lock:
        _nodes -= 1
        if _nodes == 0 and (module := _image_file()) is not None:
            setattr(module, "LOAD_TRUNCATED_IMAGES", _truncated)  # noqa: B010
