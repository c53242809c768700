"""Runs that go on in the background, their handles, and the list of an engine's runs."""

from __future__ import annotations

import contextlib
import functools
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Final, Literal

from nodegraph.errors import Cancelled
from nodegraph.run.events import Event, EventLog
from nodegraph.run.result import Result
from nodegraph.run.tasks.task import CancelFlag, stopped

RunStatus = Literal["queued", "running", "done", "failed", "cancelled"]

MAX_BACKGROUND_RUNS: Final = 32
"""How many runs that `Engine.start` began go on at once; more if workers in other processes serve more. The others are queued."""


class BackgroundRun:
    """A run that goes on in the background, as the engine sees it. The caller of `Engine.start` receives a `RunHandle`."""

    def __init__(self, run: str, *, raise_errors: bool = True) -> None:
        self.run = run
        self.status: RunStatus = "queued"
        self.cancel_flag = CancelFlag()
        self.log = EventLog()
        self._raise_errors = raise_errors
        self._outcome: Result | BaseException | None = None
        self._ended = threading.Event()
        self._callbacks: list[Callable[[], None]] = []
        self._lock = threading.Lock()

    def execute(self, work: Callable[[], Result]) -> None:
        """Run in the calling thread, unless the run was cancelled while it was queued."""
        if not self._leave_queue("running"):
            return
        try:
            self.end(work())
        except BaseException as error:
            self.end(error)

    def cancel(self) -> None:
        """See `RunHandle.cancel`."""
        self.cancel_flag.set()
        if self._leave_queue("cancelled"):
            self.end(stopped())

    def end(self, outcome: Result | BaseException) -> None:
        """Set the result, or what was raised instead."""
        self._outcome = outcome
        if isinstance(outcome, Result):
            self.status = outcome.status
        else:
            self.status = "cancelled" if isinstance(outcome, Cancelled) else "failed"
        self.log.close()
        with self._lock:
            self._ended.set()
        for callback in self._callbacks:
            callback()
        self._callbacks.clear()

    def when_ended(self, callback: Callable[[], None]) -> None:
        """Call `callback` once the run has ended, from any thread; at once if it has."""
        with self._lock:
            if not self._ended.is_set():
                self._callbacks.append(callback)
                return
        callback()

    def result(self, timeout: float | None = None) -> Result:
        """See `RunHandle.result`."""
        if not self._ended.wait(timeout):
            raise TimeoutError(f"run {self.run} has not ended after {timeout} seconds. Wait longer, or cancel it")
        if isinstance(self._outcome, Result):
            return result_or_error(self._outcome, self._raise_errors)
        assert self._outcome is not None  # set before the run has ended
        raise self._outcome

    async def wait(self) -> Result:
        """The same as a coroutine. If its task is cancelled, the run is cancelled, too, and the coroutine waits for its end."""
        import asyncio

        loop, ended = asyncio.get_running_loop(), asyncio.Event()

        def notify() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(ended.set)

        self.when_ended(notify)
        try:
            await ended.wait()
        except asyncio.CancelledError:
            self.cancel()
            await ended.wait()
            raise
        return self.result()

    def _leave_queue(self, status: RunStatus) -> bool:
        """Take `status` if the run is queued. False if it is not: another thread was first."""
        with self._lock:
            if self.status != "queued":
                return False
            self.status = status
            return True


class RunHandle:
    """A run that `Engine.start` began. May be used from any thread."""

    def __init__(self, background: BackgroundRun) -> None:
        self._background = background

    def __repr__(self) -> str:
        return f"<RunHandle {self.run}: {self.status}>"

    @property
    def run(self) -> str:
        """The id of the run."""
        return self._background.run

    @property
    def status(self) -> RunStatus:
        """The state of the run: queued, running, done, failed or cancelled."""
        return self._background.status

    def events(self) -> Iterator[Event]:
        """The events of this run, from the beginning; ends with the run. May be called several times.

        A reader that is slower than the run receives only the latest of a node's progress events. Previews of nodes that have
        ended are gone.
        """
        return self._background.log.read()

    def cancel(self) -> None:
        """Stop the run at its next step or node; a run that is queued ends without starting. Returns at once."""
        self._background.cancel()

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the result.

        Raises what `Engine.run` raises, and TimeoutError if the run has not ended after `timeout` seconds.
        """
        return self._background.result(timeout)


class Runs:
    """The active runs of an engine: those in threads of its callers, and those that it runs in the background.

    `parallel` is how many runs the workers can serve at once.
    """

    def __init__(self, parallel: Callable[[], int] = lambda: 1) -> None:
        self._parallel = parallel
        self._active: dict[int, CancelFlag] = {}
        self._sequences: list[CancelFlag] = []
        self._begun = 0
        self._queue: deque[tuple[int, Callable[[], None]]] = deque()
        self._threads = 0
        self.is_closed = False
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def active(self, cancel: CancelFlag) -> Iterator[Callable[[], bool]]:
        """Register a run of the calling thread while the block runs.

        Yields a function that returns whether another run overlapped it.

        Raises RuntimeError if the engine is closed.
        """
        with self._changed:
            number, overlapped = self._begin(cancel)
        try:
            yield overlapped
        finally:
            self._end(number)

    @contextlib.contextmanager
    def sequence(self, cancel: CancelFlag) -> Iterator[None]:
        """Set `cancel` if runs are cancelled while the block runs, also between two runs."""
        self._sequences.append(cancel)
        try:
            yield
        finally:
            self._sequences.remove(cancel)

    def start(self, cancel: CancelFlag, work: Callable[[Callable[[], bool]], None]) -> None:
        """Do the work of a run in a background thread; it receives the function that `active` yields.

        Raises RuntimeError if the engine is closed.
        """
        with self._changed:
            number, overlapped = self._begin(cancel)
            self._queue.append((number, functools.partial(work, overlapped)))
            if self._threads < max(MAX_BACKGROUND_RUNS, self._parallel()):
                self._threads += 1
                try:
                    threading.Thread(target=self._work, name=f"nodegraph-run-{number}").start()
                except RuntimeError:  # the system has no more threads
                    self._threads -= 1
                    if not self._threads:
                        self._queue.pop()
                        del self._active[number]
                        raise

    def cancel(self) -> None:
        """Cancel every run. Takes no lock, so a signal handler may call it."""
        for flag in (*self._sequences, *self._active.values()):
            flag.set()

    def close(self) -> None:
        """Cancel every run, refuse new ones, and wait until all have ended."""
        with self._changed:
            self.is_closed = True
            self.cancel()
            self._changed.wait_for(lambda: not self._active and not self._threads)

    def _begin(self, cancel: CancelFlag) -> tuple[int, Callable[[], bool]]:
        if self.is_closed:
            raise RuntimeError("this engine is closed. Make another one")
        self._begun += 1
        number, was_alone = self._begun, not self._active
        self._active[number] = cancel
        return number, lambda: not was_alone or self._begun != number

    def _end(self, number: int) -> None:
        with self._changed:
            del self._active[number]
            self._changed.notify_all()

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    self._threads -= 1
                    self._changed.notify_all()
                    return
                number, work = self._queue.popleft()
            try:
                work()
            finally:
                self._end(number)
            del work  # frees the run before the next one comes


def result_or_error(result: Result, raise_errors: bool) -> Result:
    """The result; raises its error if `raise_errors`."""
    if raise_errors and result.error is not None:
        raise result.error
    return result
