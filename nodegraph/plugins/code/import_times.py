"""When modules were loaded, and whether they have what their files contain now."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from nodegraph.files import CLOCK_NS, FileState
from nodegraph.plugins.code.loads import LOADS, PLUGIN_NAMES, Load

_started_ns = time.time_ns()


@cache
def process_start_ns() -> int:
    """When this process started. Where the system does not tell, when it imported the engine."""
    try:
        fields = Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()
        age_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - int(fields[19]) * 10**9 // os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, ValueError, IndexError):
        return _started_ns
    return min(_started_ns, time.time_ns() - age_ns)


class ImportTimes:
    """When this process imported each module, at the earliest. May be used from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._earliest: dict[str, int] = {}
        self.at_rest: set[str] = set()  # imported while no node ran
        self.module_count = 0
        self._looked_ns = 0  # modules that were imported before the first look may be as old as the process

    def look(self, *, at_rest: bool = False) -> None:
        """Note that all modules that are new have been imported since the last look; `at_rest`: no node has run since."""
        with self._lock:
            now = time.time_ns()
            modules = set(sys.modules)
            for name in self._earliest.keys() - modules:  # may be imported again
                del self._earliest[name]
                self.at_rest.discard(name)
            new = modules - self._earliest.keys()
            self._earliest.update(dict.fromkeys(new, self._looked_ns))
            if at_rest:
                self.at_rest |= new
            self._looked_ns = now
            self.module_count = len(modules)

    def earliest(self, name: str) -> int:
        """The earliest time, in nanoseconds, at which the module called `name` can have been imported."""
        return self._earliest.get(name, self._looked_ns) or process_start_ns()

    def was_before(self, name: str) -> bool:
        """Whether the module was imported before the first look, so that its load was not noted."""
        return not self._earliest.get(name, self._looked_ns)


import_times = ImportTimes()
import_times.look()


class _LoadedStates:
    """From which states of its file each module was loaded, and what the file contained. May be used from several threads.

    A module that was loaded anew may live on in its earlier states: other modules keep functions of it. So all of them count.
    Modules of plugins in folders do not: each engine loads these anew, with all that use them.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._position = 0
        self._last: dict[str, Load] = {}
        self._states: dict[str, dict[FileState | None, tuple[int, str | None]]] = {}

    def have(self, path: str, state: FileState, digest: str) -> bool | None:
        """Whether each load of the file at `path`, now in this state, read content with this digest. None: it was never loaded."""
        with self._lock:
            self._add_loads()
            states = self._states.get(path)
            if states is None:
                return None
            if state in states and not state.changed_since(states[state][0] - CLOCK_NS):
                states[state] = states[state][0], digest
            return all(known == digest for _, known in states.values())

    def last(self) -> Mapping[str, Load]:
        """The last load of each file, without those of plugins in folders."""
        with self._lock:
            self._add_loads()
            return dict(self._last)

    def _add_loads(self) -> None:
        loads = LOADS[self._position :]
        self._position += len(loads)
        for load in loads:
            if load.name.partition(".")[0] not in PLUGIN_NAMES:
                self._states.setdefault(load.path, {}).setdefault(load.state, (load.time_ns, None))
                self._last[load.path] = load


_loaded_states = _LoadedStates()


def last_loads() -> Mapping[str, Load]:
    """The last load of each file, without those of plugins in folders."""
    return _loaded_states.last()


def loaded_files() -> dict[str, str]:
    """The names of all modules in `sys.modules` that have a file, by its path, without those of plugins in folders."""
    files = ((name, getattr(module, "__file__", None)) for name, module in dict(sys.modules).items())
    return {file: name for name, file in files if isinstance(file, str) and name.partition(".")[0] not in PLUGIN_NAMES}


def has_read(name: str, path: str, state: FileState, digest: str) -> bool:
    """Whether the module called `name`, which is loaded, has what its file contains, which is in this state and has this digest."""
    known = _loaded_states.have(path, state, digest)
    if known is None or import_times.was_before(name):  # else its first load was noted, unless its loader is not Python's
        return known is not False and not state.changed_since(import_times.earliest(name) - CLOCK_NS)
    return known
