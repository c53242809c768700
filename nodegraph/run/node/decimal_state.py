"""The context of decimal numbers in a node's thread: how many digits they have and how they are rounded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from decimal import Context

_decimal: Any = None  # the module, once it is imported
_known: Context | None = None


def enter_known_decimal() -> Context | None:
    """Give this thread the context that Python begins with. Returns the one before; None if `decimal` is not imported."""
    global _decimal, _known
    if _known is None:
        decimal: Any = sys.modules.get("decimal")
        if not hasattr(decimal, "setcontext"):  # not imported, or another thread is importing it
            return None
        _decimal, _known = decimal, _make_known(decimal)
    before: Context = _decimal.getcontext()
    _decimal.setcontext(_known.copy())  # the node may change it
    return before


def leave_known_decimal(before: Context) -> None:
    """Give this thread the context of before."""
    _decimal.setcontext(before)


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
