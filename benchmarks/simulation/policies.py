"""Which worker a unit goes to: by the function that the real workers use, or in turns, for comparison."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from nodegraph.run.workers.ray.units import MAX_IN_FLIGHT, Actor, next_pair

Policy = Callable[[deque[Any], Sequence[Actor]], "tuple[Any, Actor] | None"]
"""The next unit to hand out and the actor for it, or None, as `next_pair`."""

AFFINITY: Final = "affinity"
ROUND_ROBIN: Final = "round-robin"


def round_robin() -> Policy:
    """Hands the oldest unit to the next worker in turn that has fewer than two, whatever models it has."""
    turn = 0

    def choose(waiting: deque[Any], actors: Sequence[Actor]) -> tuple[Any, Actor] | None:
        nonlocal turn
        for place in (*range(turn, len(actors)), *range(turn)) if waiting else ():
            actor = actors[place]
            if actor.is_ready and len(actor.units) < MAX_IN_FLIGHT:
                turn = (place + 1) % len(actors)
                return waiting[0], actor
        return None

    return choose


POLICIES: Final[Mapping[str, Callable[[], Policy]]] = {AFFINITY: lambda: next_pair, ROUND_ROBIN: round_robin}
