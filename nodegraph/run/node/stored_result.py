"""Comparing the stored result of a node with what it has just computed."""

from __future__ import annotations

from collections.abc import Mapping

from nodegraph.run.tasks.task import NodeTask, RunContext
from nodegraph.run.verification import WrongResult, checkable


def check_stored(task: NodeTask, digests: Mapping[str, str], context: RunContext) -> tuple[bool, WrongResult | None]:
    """Whether the stored result of a task has these digests, and what is wrong if not: it is then moved to quarantine.

    (False, None) if no result is stored any more.
    """
    cache = context.cache
    before = cache.peek(task.key) if task.key is not None else None
    if before is None:
        return False, None
    stored = {port: digest for port, digest in checkable(before).items() if digests.get(port) != digest}
    if not stored:
        return True, None
    made_by = before.computation
    wrong = WrongResult(
        node=task.node,
        type=task.type,
        key=before.key,
        stored=stored,
        computed={port: digests.get(port) for port in stored},
        plugin=task.code,
        created=cache.quarantine(before.key),
        machine=made_by.machine,
        same_machine=made_by.machine == context.machine,
        workflow=made_by.workflow,
        made_by=made_by.node,
    )
    return False, wrong
