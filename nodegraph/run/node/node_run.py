"""What a running node sees of its run, and what it needs from those that wait for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Hashable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar

from nodegraph.graph.graph import ResolvedLink
from nodegraph.node_types.on_demand import OnDemand
from nodegraph.node_types.spec import Run
from nodegraph.plugins.used_code import UsedCode
from nodegraph.run.events import NodeEvent, NodeProgress, Notice
from nodegraph.run.model_memory import NOTHING, InUse, Sizes
from nodegraph.run.node.work import WorkWatch
from nodegraph.run.tasks.task import NodeTask, RunContext, stopped

T = TypeVar("T")


class NodeHost(Protocol):
    """What a running node needs from those that wait for it."""

    def emit(self, event: NodeEvent) -> None:
        """Pass an event on to every run that waits for the node."""

    def is_cancelled(self) -> bool:
        """Whether the node should stop."""

    def value(self, link: ResolvedLink, key: str | None) -> Any:
        """The value behind a link, which the cache has under `key`. Raises LostResultError if it is no longer there."""


class Limit(Protocol):
    """What ends a node that runs for too long."""

    def check(self, i: int, n: int) -> None:
        """Raise an error if the node is over its time; step `i` of `n` is done."""


class NodeRun(Run):
    """The `Run` that a node receives while it runs. `limit` is None unless its type declares a timeout."""

    limit: Limit | None = None
    ended: Exception | None = None  # what ended the node at one of its steps, also if the node goes on
    code: UsedCode  # that of the node's type, and of registered things that it receives
    work: WorkWatch | None = None  # only if the node's type has an input that is marked Continues

    def __init__(self, task: NodeTask, context: RunContext, host: NodeHost) -> None:
        self.notices: list[str] = []
        self.in_use = InUse(context.plugins.backend)
        self.drew = False  # from a global generator of random numbers
        self.shared_changes = 0  # how many there were when it began
        self.used_engine = False  # a workflow or plugins of its own
        self.read_numerics = False  # what the key of a node covers only if its type is numeric
        self._task, self._context, self._host = task, context, host

    def __repr__(self) -> str:
        return f"<Run of node {self._task.node}>"

    @property
    def device(self) -> str:  # type: ignore[override]
        """Where the run computes. The backend is asked the first time that a node reads this."""
        self.read_numerics = True
        return self._context.numerics().device

    @property
    def dtype(self) -> str:  # type: ignore[override]
        """The dtype that the run computes in."""
        self.read_numerics = True
        return self._context.numerics().dtype

    def step(self, i: int, n: int, preview: Callable[[], Any] | None = None, *, status: str = "") -> None:
        if self.work is not None:
            self.work.look()
        self._host.emit(NodeProgress(self._task.node, i, n, preview, status=status))
        if self._host.is_cancelled():
            self.ended = stopped()
            raise stopped()  # another object, since its traceback would keep the node's values alive
        if self.limit is not None:
            try:
                self.limit.check(i, n)
            except TimeoutError as error:
                self.ended = TimeoutError(*error.args)
                raise

    def resident(self, key: Hashable, make: Callable[[], T], *, size: int = 0) -> T:
        scope = self._scope()
        return self.in_use.add((scope, key), self._context.models.get(scope, key, make, self._needs(size)))

    def on_demand(self, key: Hashable, make: Callable[[], T], *, size: int = 0) -> OnDemand[T]:
        return self._context.models.on_demand(self._scope(), key, make, self._needs(size))

    def _needs(self, size: int) -> Sizes:
        return {self.device: size} if size else NOTHING

    @property
    def digest(self) -> Callable[[Path], str | None]:
        return self._context.files.sha256

    @contextlib.contextmanager
    def work_folder(self) -> Iterator[Path]:
        store, work = self._context.cache.store, self.work
        key = None if work is None or self._task.checked or not work.can_continue() else self._task.work_key
        if store is None or work is None or key is None:
            with super().work_folder() as folder:
                yield folder
            return
        use = f"continues the work of this node ({self._task.type})"
        with store.work_folder(key, *waiting(self._task, self._host, use)) as found:
            if found is None:
                with super().work_folder() as folder:
                    yield folder
                return
            work.begin(found, anew=self._task.forced)
            try:
                yield found.files
            finally:
                work.end()

    def _scope(self) -> Hashable:
        """A model file that is replaced under the same name is another model; therefore the digests."""
        return (self._task.code, tuple(sorted(self._task.files.values())))

    def notice(self, message: str) -> None:
        if message not in self.notices:  # a node that runs twice repeats itself
            self.notices.append(message)
            self._host.emit(Notice(self._task.node, message))

    def announce(self, message: str) -> None:
        """Emit a notice that is not part of the result."""
        self._host.emit(Notice(self._task.node, message))


def waiting(task: NodeTask, host: NodeHost, use: str) -> tuple[Callable[[], None], Callable[[Path | None], None]]:
    """What to call while a lock is waited for, and once if that takes long; `use` says what its holder does."""

    def check() -> None:
        if host.is_cancelled():
            raise stopped()

    def long_wait(lock: Path | None) -> None:
        from nodegraph.cache.store.lock_holder import waiting_message

        others = "--no-cache or another --cache-dir" if lock is not None else "--cache-remote none"
        way_out = f"To go on without it, press Ctrl-C, and run with {others}"
        host.emit(Notice(task.node, f"{waiting_message(lock, use)}. {way_out}", is_waiting=True))

    return check, long_wait
