"""The message about a node that failed: what went wrong, where, and what to do next."""

from __future__ import annotations

from nodegraph.errors import NodegraphError
from nodegraph.node_types.returned import ReturnTypeError
from nodegraph.run.tasks.task import NodeTask, RunContext


def explain_failure(task: NodeTask, error: BaseException, context: RunContext) -> str:
    """What went wrong and what to do next."""
    plugin = context.plugins.nodes.get(task.type).origin.plugin if task.type in context.plugins.nodes else task.code
    if isinstance(error, ReturnTypeError):
        return f"{error}. Its result is not kept. Check its inputs, or report this to the authors of plugin '{plugin}'"
    if isinstance(error, MemoryError):
        return f"memory ran out, {one_line(error)}. Reduce what it computes at once, or try another --device or --dtype"
    if isinstance(error, ValueError | OSError | NodegraphError) and str(error):
        return str(error)
    source = ""
    import traceback

    for frame, line in traceback.walk_tb(error.__traceback__):  # the innermost plugin is at fault: a function that a node calls
        owner = context.plugins.owner(frame.f_globals.get("__name__", ""))
        if owner is not None:
            plugin, source = owner, f" ({frame.f_code.co_filename}:{line})"
    return (
        f"{type(error).__name__}: {one_line(error)}{source}. If its inputs are right, this is a mistake in plugin '{plugin}'; "
        f"-v shows the full traceback"
    )


def one_line(error: BaseException) -> str:
    return " ".join(str(error).split()) or "no message"
