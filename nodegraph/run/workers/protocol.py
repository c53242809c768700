"""How the scheduler hands out nodes, whatever runs them: threads, or one day other processes and machines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from nodegraph.run.workers.jobs import Job


class Workers(Protocol):
    """Runs nodes for all runs of an engine: at most one numeric node at a time per device.

    A task is one or more nodes that one worker runs in order. Each comes as a `Job`, and `job.task` describes it as data:
    literals, links, content keys and digests. A value that has a codec passes between tasks through the cache, under
    the content key in `NodeTask.sources`. A value without a codec never leaves its task, so workers that share no memory
    receive the nodes that exchange it as one task. Workers in this process may use `job.value` instead, which keeps values in
    memory. A value given in Python is part of the node's inputs; workers that share no memory need it stored first, under
    `Value.digest`.

    The worker takes the lock of a node's key, so that no other process computes the same result. While it holds the lock,
    it looks the key up once more, runs the node, and stores the result. The scheduler stores nothing but the aliases of keys.
    `Jobs`, not the workers, makes sure that a node that several runs need runs only once in this process.
    """

    def in_use(self) -> AbstractContextManager[None]:
        """The time during which a run hands out tasks. Afterwards workers may release what they hold, such as threads."""

    def submit(self, task: Sequence[Job], *, here: bool = False) -> Callable[[], bool]:
        """Run the jobs of a task. Returns a function that takes the task back: False if it has begun.

        With `here` the calling thread may run it, and `submit` then returns when it has ended.
        """
