"""The environment variables and the current directory, which nodes share: what a node changed is undone once no node runs.

This runs around every node. Reading both takes longer than all the rest, so changes by Python code are noted when they are made.
"""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

_AS_BYTES: Final = "_data"  # the environment variables as `os` keeps them: decoding them takes long
_getcwd: Final = os.getcwd  # makes no path object
_Environ: Final = getattr(os, "_Environ", None)  # the class of `os.environ`

# whoever changes them puts another object here, before and after: a count could be the same again if two threads raise it
_change: object = object()
_seen: object = None  # the change at which the variables and the directory were noted,
_environ: Any = os.environ  # and what `os.environ` was then
_variables: dict[Any, Any] = {}
_directory: str | None = None


def note_surroundings() -> None:
    """Note them as they are now, while no node runs, unless they are known."""
    if _change is not _seen or os.environ is not _environ:
        _look()


def look_again_later() -> None:
    """Read them when the next node begins: code that is not Python, such as a file dialog, may have set the directory."""
    global _seen
    _seen = None


def restore_surroundings() -> tuple[str, ...]:
    """Undo what was changed since they were noted; returns the names of the parts."""
    try:
        if _change is _seen and os.environ is _environ and _directory == _getcwd():
            return ()
    except OSError:  # it was removed
        pass
    restored: tuple[str, ...] = ()
    is_replaced = os.environ is not _environ
    if is_replaced:
        os.environ = _environ  # noqa: B003
    if is_replaced or _variables != getattr(os.environ, _AS_BYTES, os.environ):
        _set_environment(_variables)
        restored += ("environment variables",)
    if _directory is not None and _directory != _current_directory():
        with contextlib.suppress(OSError):
            os.chdir(_directory)
            restored += ("the current directory",)
    return restored


def _look() -> None:
    global _seen, _environ, _variables, _directory
    _seen = _change if type(os.environ) is _Environ else None  # changes of another mapping are not noted
    _environ, _variables = os.environ, getattr(os.environ, _AS_BYTES, os.environ).copy()
    _directory = _current_directory()


def _current_directory() -> str | None:
    try:
        return _getcwd()
    except OSError:  # it was removed
        return None


def _set_environment(variables: Mapping[Any, Any]) -> None:
    decode: Callable[[Any], str] = getattr(os.environ, "decodekey", str)
    before = {decode(name): os.fsdecode(value) for name, value in variables.items()}
    has_timezone = "TZ" in os.environ or "TZ" in before
    for name in set(os.environ) - before.keys():
        del os.environ[name]
    os.environ.update(before)
    if has_timezone and hasattr(time, "tzset"):
        time.tzset()  # a node may have called it for another value


def _noting(change: Callable[..., Any]) -> Callable[..., Any]:
    """A function that changes the variables or the directory, and notes that."""

    @functools.wraps(change)
    def noted(*arguments: Any, **keywords: Any) -> Any:
        global _change
        _change = object()
        try:
            return change(*arguments, **keywords)
        finally:
            _change = object()

    return noted


def _watch_changes() -> None:
    for owner, names in ((_Environ, ("__setitem__", "__delitem__")), (os, ("chdir", "fchdir", "reload_environ"))):
        for name in names:
            change = getattr(owner, name, None)
            if change is not None and not hasattr(change, "__wrapped__"):
                noted = _noting(change)
                setattr(owner, name, noted)
                if change in os.supports_fd:
                    os.supports_fd.add(noted)


_watch_changes()
