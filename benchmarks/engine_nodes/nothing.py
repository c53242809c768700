"""A plugin with nodes that do almost nothing, so that a benchmark measures the engine."""

from __future__ import annotations

from nodegraph import hookimpl, node


@node("Start")
def start(number: int = 0) -> int:
    """Returns `number`."""
    return number


@node("Step")
def step(number: int, amount: int = 1) -> int:
    """The sum of `number` and `amount`."""
    return number + amount


@node("Numbers")
def numbers(count: int) -> list[int]:
    """The whole numbers below `count`."""
    return list(range(count))


@hookimpl
def register_nodes(register):  # type: ignore[no-untyped-def]
    """Start, Step and Numbers."""
    for function in (start, step, numbers):
        register(function)
