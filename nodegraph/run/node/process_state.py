"""State of the process around a node: random generators, environment variables, the current directory, and the locale.

This runs for every node, so it avoids what is slow: generators as context managers, copies of a generator's state, system calls.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from nodegraph.plugins.backend import Backend
from nodegraph.plugins.code.loads import import_times
from nodegraph.plugins.code.running import RUNNING
from nodegraph.plugins.code.watch import note_rest
from nodegraph.plugins.state import locale_state
from nodegraph.plugins.state.generators import drew, generator_reader
from nodegraph.plugins.state.locale_state import enter_known_locale, leave_known_locale
from nodegraph.plugins.state.number_state import enter_known_numbers, leave_known_numbers
from nodegraph.plugins.state.surroundings import note_surroundings, restore_surroundings

# held while a node enters or leaves, so that no snapshot is taken of what a node has changed; `with` takes twice as long
_acquire, _release = locale_state.lock.acquire, locale_state.lock.release
_thread = threading.get_ident


class ProcessWatch:
    """Watch a node during the block. Once no node runs any more, what nodes changed is restored.

    Afterwards, `drew` says whether it drew from a global generator, and `restored` what was changed back, for a notice. If not
    `ran_by_itself`, another node may have changed it: several have run since the process was last at rest. A watched node runs
    with the backend's known state. `plugin` is the place of the node's plugin, and `used_engine` whether the node used an engine.
    """

    ran_by_itself, drew, used_engine = True, False, False
    restored: tuple[str, ...] = ()
    _known_state: AbstractContextManager[None] | None = None

    def __init__(self, backend: Backend, watched: bool, plugin: str) -> None:
        self._backend = backend  # one by one, and by position, takes half the time
        self._watched = watched
        self.plugin = plugin
        self.thread = _thread()

    def __enter__(self) -> ProcessWatch:
        global _read_generator, _nodes
        if _read_generator is None:
            _read_generator = generator_reader()
        _acquire()
        try:
            if not RUNNING:
                _nodes = 0
                note_surroundings()
                if len(sys.modules) != import_times.module_count:
                    note_rest()
            enter_known_locale()
            RUNNING.add(self)
            _nodes += 1
        finally:
            _release()
        self._numbers = enter_known_numbers()
        self._python, self._others = _read_generator(), self._backend.generator_states(self._watched)
        if self._watched:
            self._known_state = self._backend.known_state()
            self._known_state.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        assert _read_generator is not None  # `__enter__` has set it
        if self._known_state is not None:
            self._known_state.__exit__(None, None, None)
        leave_known_numbers(self._numbers)
        before, now = self._others, self._backend.generator_states(self._watched)
        if self._python != _read_generator():
            self.drew = True
        elif before != now:
            self.drew = drew(before, now)
        _acquire()
        try:
            RUNNING.discard(self)
            if leave_known_locale():
                self.restored += ("the locale",)
            if not RUNNING and (restored := restore_surroundings()):
                self.restored += restored
            if self.restored:
                self.ran_by_itself = _nodes == 1
        finally:
            _release()


_nodes = 0  # that have begun since the first of those that run now


def _forget_nodes() -> None:
    """In a process that was forked while nodes ran: their threads are not in it, and the lock is another one."""
    global _acquire, _release
    _acquire, _release = locale_state.lock.acquire, locale_state.lock.release
    RUNNING.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_nodes)


_read_generator: Callable[[], Any] | None = None
