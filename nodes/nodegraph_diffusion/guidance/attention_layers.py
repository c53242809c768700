"""A replacement for the self-attention layers in chosen parts of a network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class AttentionReplacement:
    """An `AttentionHook` that calls `replace(q, k, v)` for the self-attention layers in `parts` of a network, given by name.

    "middle_block" is the whole middle block, "output_blocks.5.1.transformer_blocks.0" one transformer block.
    """

    def __init__(self, parts: Sequence[str], replace: Callable[[Tensor, Tensor, Tensor], Tensor | None]) -> None:
        self.parts, self.replace = tuple(parts), replace
        self._other_layers: list[str] = []
        self._found = False

    def __call__(self, layer: str, q: Tensor, k: Tensor, v: Tensor, /) -> Tensor | None:
        """The result of `replace` for a layer in one of the parts, None for other layers."""
        if not self._found:
            self._other_layers.append(layer)
        if not any(layer == part or layer.startswith(f"{part}.") for part in self.parts):
            return None
        self._found = True
        return self.replace(q, k, v)

    def require_found(self, guidance: str) -> None:
        """Raise ValueError if the network was evaluated and has no self-attention in these parts."""
        if not self._found:
            raise ValueError(
                f"guidance {guidance}: expected a network with self-attention in {' or '.join(self.parts)}, found it in "
                f"{', '.join(self._other_layers) or 'no layer'}; name parts that have it"
            )
