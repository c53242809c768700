"""How the scheduler hands out nodes, whatever runs them: threads, other processes, or other machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from nodegraph.graph.graph import ResolvedLink
from nodegraph.plugins.backend import Numerics
from nodegraph.run.events import Event, NodeEvent
from nodegraph.run.tasks.task import CancelFlag, Demand, NodeTask, Outcome, RunContext
from nodegraph.run.workers.setup import WorkerSetup


def do_nothing() -> None:
    """The default callback."""


class Runnable(Protocol):
    """What threads of this process run. `task` says what it is."""

    @property
    def task(self) -> NodeTask:
        """What to run, as plain data."""

    def run(self, on_handed_out: Callable[[], None] = do_nothing) -> None:
        """Run in the calling thread, and finish; `on_handed_out` as for `Job.finish`."""


class Job(Runnable, Protocol):
    """One node of a task, as a worker sees it, whichever runs wait for the node.

    A worker in this process calls `run`. Any other one reads `task`, passes events to `emit`, asks `is_cancelled` now and then, and
    ends with `finish` or `abandon`. All of this may be done in any thread.
    """

    def emit(self, event: NodeEvent) -> None:
        """Pass an event on to every run that waits."""

    def is_cancelled(self) -> bool:
        """Whether the node should stop."""

    def finish(self, outcome: Outcome | BaseException, on_handed_out: Callable[[], None] = do_nothing) -> None:
        """Pass the outcome on to every run that waits.

        `on_handed_out` is called once a run has handed out the tasks that follow, so that a worker may prefer one of these.
        """

    def abandon(self, on_handed_out: Callable[[], None] = do_nothing) -> None:
        """Give up without an outcome: each run that still needs one starts over with this node."""

    def run(self, on_handed_out: Callable[[], None] = do_nothing) -> None:
        """Run the node in the calling thread, and finish. Only for workers that share memory with the run."""

    def value(self, link: ResolvedLink, key: str | None) -> Any:
        """The value behind a link, from memory or the cache. Only for workers that share memory with the run."""


class Workers(Protocol):
    """Runs nodes for all runs of an engine: at most one numeric node at a time per device.

    A task is one or more nodes that one worker runs in order. Each comes as a `Job`, whose `task` describes it as plain data:
    type, literals, links, keys and digests. The worker finds the function by the name of the type among its own plugins. If a
    node of a task has no result (an error, or it was stopped), the worker abandons the jobs after it. The worker runs
    those after the first as `NodeTask.after` says.

    With `shares_memory`, workers are in the process of the run: every task is one node, `job.run` runs it, and its values pass in
    memory. Without it, a worker may be in any process that has the same plugins and the same cache directory:

    - A value that has a codec passes between tasks through the cache. The cache has it under the key in `NodeTask.sources`, and
      under the port of the link. The task that makes it stores it: under its content key, or if it has none, under
      `key_of_value`. If it cannot be stored, the node fails with an error that says so.
    - A value without a codec never leaves its task. The scheduler makes one task of a node and the nodes that make such values
      for it, and repeats these in another task if it has to.
    - A value given in Python is stored before a task refers to it. The task holds a `StoredInput`.
    - What cannot be passed on in one of these ways stays in the process of the run, which has threads for it:
        - values given in Python that are neither plain data nor have a codec;
        - outputs of a run that have no codec;
        - values without a codec from nodes that are not pure;
        - all nodes linked to these by a value without a codec;
        - everything, if there is no cache directory.

    The worker takes the lock of a node's key, so that no other process computes the same result. While it holds the lock,
    it looks the key up once more, runs the node, and stores the result (`run_node` does all of this). The scheduler stores only
    values given in Python, and the aliases of keys. `Jobs`, not the workers, makes sure that a node that several runs need runs
    only once in this process.
    """

    shares_memory: bool

    def prepare(self, demands: Sequence[Demand], cancel: CancelFlag) -> None:
        """Make sure that workers can run these nodes, before the first node of a run runs. May wait for workers.

        Called for workers that share no memory. Raises NodegraphError if they cannot, and Cancelled.
        """

    def in_use(self) -> AbstractContextManager[None]:
        """The time during which a run hands out tasks. Afterwards workers may release what they hold, such as threads."""

    def submit(self, task: Sequence[Job], *, in_caller: bool = False) -> Callable[[], bool]:
        """Run the jobs of a task. Returns a function that takes the task back: False if it has begun.

        With `in_caller` the calling thread may run it, and `submit` then returns when it has ended.
        """


class Threads(Protocol):
    """Workers in this process."""

    def submit(self, task: Sequence[Runnable], *, in_caller: bool = False) -> Callable[[], bool]:
        """As `Workers.submit`."""

    def in_use(self) -> AbstractContextManager[None]:
        """As `Workers.in_use`."""


class OtherProcesses(Workers, Protocol):
    """Workers in other processes, which an engine has for itself. `parallel` is how many tasks they take at once."""

    @property
    def parallel(self) -> int:
        """How many tasks the workers take at once."""

    def connect(self, setup: WorkerSetup, *, context: RunContext, local: Threads, notify: Callable[[Event], None]) -> None:
        """Belong to an engine from now on.

        `context` is what nodes of this process work with, `local` are the workers for them, and `notify` receives notices.
        Raises ValueError if these workers belong to another engine.
        """

    def numerics(self, own: Callable[[], Numerics]) -> Numerics:
        """What the workers compute with, for keys. `own` is what this process would compute with."""

    def close(self) -> None:
        """End the processes."""
