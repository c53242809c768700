"""NODEGRAPH_STALL: if a run makes no progress for a while, it prints what every thread is doing, and goes on."""

from __future__ import annotations

import contextlib
import faulthandler
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

from nodegraph.run.events import Event, NodeFailed, NodeFinished, NodeStarted
from nodegraph.terminal import escaped

_STDERR: Final = 2  # written to directly: a thread that is stuck may hold the lock of sys.stderr
_CHECKS: Final = 4  # in the time after which a run counts as stalled


class StallWatch:
    """Watches one run. After `seconds` without an event, it prints a report, and another one after as long again.

    The report is written by a thread of this process. If no thread can run, because one does not release Python's global lock,
    faulthandler prints the stacks alone, a little later.
    """

    def __init__(self, run: str, seconds: float) -> None:
        self._run, self._seconds = run, seconds
        self._last = time.monotonic()
        self._started: dict[str, float] = {}
        self._ended = threading.Event()

    def noting(self, emit: Callable[[Event], None]) -> Callable[[Event], None]:
        """A function that notes the run's progress and passes each event on to `emit`."""

        def note(event: Event) -> None:
            now = self._last = time.monotonic()
            if isinstance(event, NodeStarted):
                self._started[event.node] = now
            elif isinstance(event, NodeFinished | NodeFailed):
                self._started.pop(event.node, None)
            emit(event)

        return note

    @contextlib.contextmanager
    def watching(self) -> Iterator[None]:
        """Watch during the block."""
        thread = threading.Thread(target=self._watch, name="nodegraph-stall", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._ended.set()
            thread.join()

    def _watch(self) -> None:
        try:
            while True:
                faulthandler.dump_traceback_later(1.5 * self._seconds, file=_STDERR)
                if self._ended.wait(self._seconds / _CHECKS):
                    return
                if time.monotonic() - self._last >= self._seconds:
                    self._report()
                    self._last = time.monotonic()
        finally:
            faulthandler.cancel_dump_traceback_later()

    def _report(self) -> None:
        now = time.monotonic()
        nodes = [
            f"'{name}' for {now - began:.0f} s" for name, began in sorted(self._started.copy().items(), key=lambda item: item[1])
        ]
        running = f"running: {', '.join(nodes)}" if nodes else "no node is running"
        text = (
            f"nodegraph: run {self._run} made no progress for {now - self._last:.0f} s (NODEGRAPH_STALL={self._seconds:g}); "
            f"{running}. The run goes on. The stacks of all threads:\n"
        )
        with contextlib.suppress(OSError):
            os.write(_STDERR, escaped(text).encode(errors="backslashreplace"))
            faulthandler.dump_traceback(_STDERR, all_threads=True)
