"""Which of a network's self-attentions a guidance changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class AtPlaces:
    """An `AttentionHook` that asks `change(q, k, v)` at the self-attentions in `places`: parts of a network by their names.

    "middle_block" is all of the middle, "output_blocks.5.1.transformer_blocks.0" one block.
    """

    def __init__(self, places: Sequence[str], change: Callable[[Tensor, Tensor, Tensor], Tensor | None]) -> None:
        self.places, self.change = tuple(places), change
        self._met: list[str] = []
        self._found = False

    def __call__(self, place: str, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor | None:
        """What `change` gives at a place that is meant, None elsewhere."""
        if not self._found:
            self._met.append(place)
        if not any(place == part or place.startswith(f"{part}.") for part in self.places):
            return None
        self._found = True
        return self.change(q, k, v)

    def require_found(self, guidance: str) -> None:
        """Raise ValueError where the network has been asked and has no self-attention there."""
        if not self._found:
            raise ValueError(
                f"guidance {guidance}: expected a network with self-attention in {' or '.join(self.places)}, found it in "
                f"{', '.join(self._met) or 'no place'}; name parts that have it"
            )
