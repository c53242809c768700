"""Switches of NumPy and Pillow that results depend on: how arrays are written and computed, and whether half a picture is read."""

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

_KNOWN_ERRORS: Final = {"divide": "warn", "over": "warn", "under": "ignore", "invalid": "warn"}
_KNOWN_BUFFER: Final = 8192
_KNOWN_ARITHMETIC: Final = (_KNOWN_ERRORS, _KNOWN_BUFFER)

_format: ContextVar[dict[str, Any]] | None = None  # in which NumPy keeps its options
_known_arithmetic: Any = None  # NumPy's object for the known settings, once it was made
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


def enter_known_arithmetic() -> Any:
    """Give NumPy's handling of errors and the size of its buffers their defaults. Returns those before; None without NumPy."""
    global _known_arithmetic
    variable = _arithmetic_variable()
    if variable is None or not hasattr(sys.modules.get("numpy"), "setbufsize"):
        return _enter_by_functions()
    before = variable.get()
    if before is not _known_arithmetic:
        if _known_arithmetic is None:
            _write_arithmetic(sys.modules["numpy"], _KNOWN_ARITHMETIC)
            _known_arithmetic = variable.get()
        variable.set(_known_arithmetic)
    return before


def leave_known_arithmetic(before: Any) -> None:
    """Give NumPy's arithmetic the settings of before, whatever the node did."""
    if before is None:
        return
    if isinstance(before, tuple):
        _write_arithmetic(sys.modules["numpy"], before)
    elif (variable := _arithmetic_variable()) is not None and variable.get() is not before:
        variable.set(before)


def _arithmetic_variable() -> ContextVar[Any] | None:
    """Where NumPy 2 keeps both settings as one object. Asking its functions takes ten times as long."""
    return getattr(sys.modules.get("numpy._core.umath"), "_extobj_contextvar", None)


def _enter_by_functions() -> tuple[dict[str, Any], int] | None:
    numpy: Any = sys.modules.get("numpy")
    if not hasattr(numpy, "setbufsize"):  # not imported, or another thread is importing it
        return None
    before = numpy.geterr(), numpy.getbufsize()
    if before != _KNOWN_ARITHMETIC:
        _write_arithmetic(numpy, _KNOWN_ARITHMETIC)
    return before


def _write_arithmetic(numpy: Any, wanted: tuple[dict[str, Any], int]) -> None:
    numpy.seterr(**wanted[0])
    numpy.setbufsize(wanted[1])


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


def restore_whole_pictures() -> bool:
    """Let Pillow refuse pictures that end too early again. Returns whether a node has changed that."""
    module = _image_file()
    if module is None or not getattr(module, "LOAD_TRUNCATED_IMAGES"):  # noqa: B009 (mypy does not know it)
        return False
    setattr(module, "LOAD_TRUNCATED_IMAGES", False)  # noqa: B010
    return True


def leave_whole_pictures() -> None:
    """Give Pillow's switch the value of before. Called once no node runs any more."""
    if (module := _image_file()) is not None:
        setattr(module, "LOAD_TRUNCATED_IMAGES", _truncated)  # noqa: B010
