"""Notes what the loaders of Python's modules do not show: modules that are not found, and shared libraries of `ctypes`."""

from __future__ import annotations

import functools
import importlib.machinery
import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from nodegraph.plugins.code.installed import MODULE
from nodegraph.plugins.code.loads import LOADS, PLUGIN_NAMES, Load, note_load
from nodegraph.plugins.code.running import RUNNING, is_library_running, plugins_of_running_nodes

_LIBRARIES_OF_SYSTEM: Final = ("/usr/lib", "/lib")
_MODULE: Final = "_ctypes"


class _Misses:
    """The last of the finders of Python: notes the names of modules that the code of a node looks for, and that nothing finds."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if RUNNING and name.partition(".")[0] not in PLUGIN_NAMES and not is_library_running():
            by_nodes = plugins_of_running_nodes()
            LOADS.append(Load(name, f"{MODULE}{name}", None, time.time_ns(), threading.get_ident(), by_nodes, False))


def _noting(load: Callable[..., Any]) -> Callable[..., Any]:
    """The function of `ctypes` that loads a shared library."""

    @functools.wraps(load)
    def load_library(name: Any, *arguments: Any) -> Any:
        if isinstance(name, str | bytes | os.PathLike):
            path = os.fsdecode(name)
            if os.sep in path and not path.startswith(_LIBRARIES_OF_SYSTEM):
                note_load("a shared library", os.path.abspath(path))  # noqa: PTH100
        return load(name, *arguments)

    return load_library


def _watch_libraries() -> None:
    """Let `ctypes` note what it loads, if it is imported already."""
    for module in (sys.modules.get(_MODULE), sys.modules.get("ctypes")):
        for name in ("dlopen", "_dlopen", "LoadLibrary"):
            load = getattr(module, name, None)
            if callable(load) and not hasattr(load, "__wrapped__"):
                setattr(module, name, _noting(load))


def _watching(make: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a loader that runs a module which is no Python: once `ctypes` is loaded, it is watched."""

    @functools.wraps(make)
    def run(self: Any, module: Any) -> Any:
        made = make(self, module)
        if getattr(module, "__name__", "") == _MODULE:
            _watch_libraries()
        return made

    return run


def watch_hidden_loads() -> None:
    """Note them from now on."""
    if not any(isinstance(finder, _Misses) for finder in sys.meta_path):
        sys.meta_path.append(_Misses())
    loader: Any = importlib.machinery.ExtensionFileLoader
    if not hasattr(loader.exec_module, "__wrapped__"):
        loader.exec_module = _watching(loader.exec_module)
    _watch_libraries()
