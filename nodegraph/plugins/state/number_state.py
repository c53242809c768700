"""How a thread computes with fractions: the rounding mode of the processor, and the context of decimal numbers.

Python never changes the first one, but a library can, with C's `fesetround`. This runs for every node, so both are in one function.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from decimal import Context

# the compiler would compute a sum of literals. The first sum rounds to `_NEXT` only if sums are rounded up, and the second one
# rounds to it only if they are rounded up or to the nearest number
_ONE: Final = 1.0
_QUARTER: Final = 2.0**-54
_REST: Final = 3 * 2.0**-54
_NEXT: Final = 1.0 + 2.0**-52

_TO_NEAREST: Final = 0  # FE_TONEAREST, on every processor that has this mode

Numbers: TypeAlias = "tuple[int | None, Context | None]"
"""The rounding mode of before, None if it was to the nearest number, and the context; None if `decimal` was not imported."""

_known: Context | None = None
_copy_known: Callable[[], Context]
_get_context: Callable[[], Context]
_set_context: Callable[[Context], None]


def enter_known_numbers() -> Numbers:
    """Let this thread round to the nearest number, and give it the context that Python begins with. Returns those before."""
    rounding = None if _ONE + _QUARTER + _REST == _NEXT else _set_mode(_TO_NEAREST)
    if _known is None and not _find_decimal():
        return rounding, None
    before = _get_context()
    _set_context(_copy_known())  # the node may change it
    return rounding, before


def leave_known_numbers(before: Numbers) -> None:
    """Give this thread what it had before, whatever the code did."""
    rounding, context = before
    if context is not None:
        _set_context(context)
    if rounding is not None or _ONE + _QUARTER + _REST != _NEXT:
        _set_mode(_TO_NEAREST if rounding is None else rounding)


def _find_decimal() -> bool:
    """Find the functions for contexts, and make the known one. False if they are not there yet."""
    global _known, _copy_known, _get_context, _set_context
    decimal: Any = sys.modules.get("decimal")
    if not hasattr(decimal, "setcontext"):  # not imported, or another thread is importing it
        return False
    known = _make_known(decimal)
    _get_context, _set_context, _copy_known, _known = decimal.getcontext, decimal.setcontext, known.copy, known
    return True


def _make_known(decimal: Any) -> Context:
    """The default context, by its documented values: a program can change `decimal.DefaultContext`."""
    context: Context = decimal.Context(
        prec=28,
        rounding="ROUND_HALF_EVEN",
        Emin=-999999,
        Emax=999999,
        capitals=1,
        clamp=0,
        flags=[],
        traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow],
    )
    return context


def _set_mode(mode: int) -> int | None:
    """Set the rounding mode. Returns the one before; None if the system's library cannot be called."""
    library = _c_library()
    if library is None:
        return None
    before = int(library.fegetround())
    library.fesetround(mode)
    return before


def _c_library() -> Any:
    """The C library; None if it has no functions for the mode."""
    with contextlib.suppress(ImportError):
        import ctypes

        for name in (None, "ucrtbase"):  # what the process has loaded; on Windows the library has to be named
            with contextlib.suppress(OSError, TypeError):
                library = ctypes.CDLL(name)
                if hasattr(library, "fegetround") and hasattr(library, "fesetround"):
                    return library
    return None
