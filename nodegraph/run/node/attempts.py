"""Nodes that declare a timeout or retries."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from nodegraph.errors import TemporaryError
from nodegraph.node_types.spec import NodeSpec
from nodegraph.plugins.codec import Codec
from nodegraph.run.node.call import compute
from nodegraph.run.node.failure import one_line
from nodegraph.run.node.node_run import NodeHost, NodeRun
from nodegraph.run.tasks.task import RunContext, stopped
from nodegraph.text import number

FIRST_PAUSE: Final = 0.5
"""Seconds before the first retry; the pause doubles with each."""

LONGEST_PAUSE: Final = 30.0
"""Seconds."""

_LASTING: Final = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
"""Errors of the operating system that come again."""


class TimeLimit:
    """The time that a node may run, from now on."""

    def __init__(self, seconds: float) -> None:
        self._seconds, self._started = seconds, time.monotonic()

    def check(self, i: int, n: int) -> None:
        """Raise TimeoutError if the time is over; step `i` of `n` is done."""
        taken = time.monotonic() - self._started
        if taken > self._seconds and i < n:
            raise TimeoutError(
                f"step {i} of {n} was done after {taken:.2f} s, but the node type allows {number(self._seconds)} s, so it was "
                f"stopped. Give it less to do, or raise @node(timeout=...) in its plugin"
            )


def compute_with_retries(
    *,
    spec: NodeSpec,
    arguments: dict[str, Any],
    run: NodeRun,
    context: RunContext,
    host: NodeHost,
    read_again: Callable[[], dict[str, Any]],
) -> tuple[dict[str, Any], dict[str, Codec | None]]:
    """As `compute`, within the node type's timeout, and again after an error that may not come again."""
    for retry in range(1, spec.retries + 2):
        run.limit = TimeLimit(spec.timeout) if spec.timeout is not None else None
        try:
            return compute(spec, arguments, run, context, read_again=read_again)
        except Exception as error:
            if retry > spec.retries or not _may_pass(error):
                raise
            reason = one_line(error)
        # after the block: inside it, the error's traceback would keep the function's own values alive
        pause = min(FIRST_PAUSE * 2 ** (retry - 1), LONGEST_PAUSE)
        run.announce(f"it failed ({reason}); it runs again in {number(pause)} s, retry {retry} of {spec.retries}")
        _wait(pause, host)
        arguments = read_again()
    raise AssertionError("the last attempt returns or raises")


def _may_pass(error: Exception) -> bool:
    return isinstance(error, TemporaryError | OSError) and not isinstance(error, _LASTING)


def _wait(seconds: float, host: NodeHost) -> None:
    """Wait; raises Cancelled if the node should stop."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        if host.is_cancelled():
            raise stopped()
        time.sleep(min(left, 0.05))
