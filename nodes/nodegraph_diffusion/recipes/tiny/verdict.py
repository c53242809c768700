"""The reading of a picture by a judge, and its comparison with a caption."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.tiny.world import Request


class Judge(Protocol):
    """Reads pictures (B, 64, 64, 3), 8-bit, without their captions: the things from left to right, place, time."""

    def __call__(self, pixels: NDArray[np.uint8], /) -> list[Request]: ...


def faults(asked: Request, seen: Request) -> list[str]:
    """The attributes in which a picture differs from its caption; those that the caption leaves open cannot be wrong.

    A pair in the wrong order has the fault "order" only; otherwise kinds and colours are compared from the left.
    """
    wrong = [name for name in ("place", "time") if getattr(asked, name) not in (None, getattr(seen, name))]
    if len(asked.things) != len(seen.things):
        return [*wrong, "count"]
    if _all_match(asked, seen.things):
        return wrong
    if _all_match(asked, seen.things[::-1]):
        return [*wrong, "order"]
    kinds = any(want[0] != got[0] for want, got in zip(asked.things, seen.things, strict=True))
    colours = any(want[1] not in (None, got[1]) for want, got in zip(asked.things, seen.things, strict=True))
    return wrong + ["kind"] * kinds + ["colour"] * colours


def _all_match(asked: Request, things: tuple[tuple[str, str | None], ...]) -> bool:
    return all(want[0] == got[0] and want[1] in (None, got[1]) for want, got in zip(asked.things, things, strict=True))
