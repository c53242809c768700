"""Which nodes are running in this process, and which of them use an engine or plugins themselves."""

from __future__ import annotations

import functools
import importlib
import os
import runpy
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Final, Protocol

from nodegraph.plugins.code.installed import is_installed_file

ENGINE_FOLDER: Final = f"{Path(__file__).parents[2]}{os.sep}"
_THIS_FOLDER: Final = f"{Path(__file__).parent}{os.sep}"
_IMPORTERS: Final = (f"{Path(importlib.__file__).parent}{os.sep}", runpy.__file__)


class RunningNode(Protocol):
    """A node that is running: the place of its plugin (`Origin.place`), its thread, and whether it has used an engine."""

    plugin: str
    thread: int
    used_engine: bool


_NODE_CALL: Final = "_call"  # the names of the functions of the engine that call nodes, and listeners of events
_LISTENER_CALL: Final = "_emit"

RUNNING: Final[set[RunningNode]] = set()
"""The nodes that are running."""

PLUGINS_WITH_PLUGINS: Final[set[str]] = set()
"""The places of plugins of which a node has loaded plugins: it may have kept them, and any of their nodes may use them."""


_STARTED_BY: Final = "_nodegraph_started_by"  # an attribute of threads: the places of the plugins whose nodes started them


def plugins_of_running_nodes() -> tuple[str, ...]:
    """The places of the plugins of the nodes that are running."""
    return tuple({node.plugin for node in tuple(RUNNING)}) if RUNNING else ()


def is_library_running() -> bool:
    """Whether what runs in this thread, above the engine if it is there, is called by an installed library, not by a node alone.

    Python's importers are no libraries.
    """
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        file = frame.f_code.co_filename
        if file.startswith(ENGINE_FOLDER):
            if not file.startswith(_THIS_FOLDER):
                return False
        elif is_installed_file(file) and not file.startswith(_IMPORTERS):
            return True
        frame = frame.f_back
    return False


def note_use_of_engine() -> None:
    """Note that the node that runs in this thread, if there is one, uses an engine itself."""
    for node in _nodes_of_this_thread():
        node.used_engine = True


def note_use_of_plugins() -> None:
    """Note that the node that runs in this thread, if there is one, loads plugins itself."""
    PLUGINS_WITH_PLUGINS.update(node.plugin for node in _nodes_of_this_thread())


def _nodes_of_this_thread() -> list[RunningNode]:
    """Several, if a node runs a workflow itself. None while a listener of events runs, which is called by the engine.

    In a thread that a node has started, these are all nodes of its plugin: any of them may use what the thread does.
    """
    thread = threading.get_ident()
    places = getattr(threading.current_thread(), _STARTED_BY, ()) if RUNNING else ()
    nodes = [node for node in tuple(RUNNING) if node.thread == thread or node.plugin in places]
    return [] if nodes and _is_listener_running() else nodes


def _is_listener_running() -> bool:
    """Whether the last that the engine has called in this thread is a listener of events, and not the function of a node."""
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if frame.f_code.co_name in (_NODE_CALL, _LISTENER_CALL) and frame.f_code.co_filename.startswith(ENGINE_FOLDER):
            return frame.f_code.co_name == _LISTENER_CALL
        frame = frame.f_back
    return False


def _noting_start(start: Callable[[threading.Thread], None]) -> Callable[[threading.Thread], None]:
    """`threading.Thread.start`, which notes the plugins of the nodes that start the thread."""

    @functools.wraps(start)
    def start_thread(self: threading.Thread) -> None:
        if RUNNING:
            places = {node.plugin for node in _nodes_of_this_thread()}
            if places:
                setattr(self, _STARTED_BY, tuple(places))
        start(self)

    return start_thread


if not hasattr(threading.Thread.start, "__wrapped__"):
    threading.Thread.start = _noting_start(threading.Thread.start)  # type: ignore[assignment, method-assign]
