"""Computing a picture tile by tile, for networks that need much memory."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from nodegraph_diffusion.masks import faded


def tiled(
    function: Callable[[Tensor], Tensor],
    planes: Tensor,
    tile: int,
    overlap: int,
    *,
    scale: int,
    on_tile: Callable[[int, int], None] = lambda done, total: None,
) -> Tensor:
    """`function` of (B, C, H, W), which makes pictures `scale` times as large, computed in tiles of `tile` pixels along a side.

    Neighbouring tiles share `overlap` pixels, over which they fade into each other. The result is on the CPU. `on_tile` is called
    with the number of tiles done and of all tiles. Raises ValueError unless 0 <= overlap < tile.
    """
    if not 0 <= overlap < tile:
        raise ValueError(f"overlap: expected less than a tile's side of {tile} pixels, found {overlap}")
    height, width = planes.shape[-2:]
    places = [(y, x) for y in _starts(height, tile, overlap) for x in _starts(width, tile, overlap)]
    total, weights = torch.zeros(1), torch.zeros(1)
    for done, (y, x) in enumerate(places, 1):
        computed = function(planes[..., y : y + tile, x : x + tile]).float().cpu()
        if done == 1:
            total = computed.new_zeros(*computed.shape[:2], height * scale, width * scale)
            weights = total.new_zeros(total.shape[-2:])
        rows, columns = computed.shape[-2:]
        weight = faded((rows, columns), overlap * scale, (x > 0, y > 0, x + tile < width, y + tile < height))
        area = (slice(y * scale, y * scale + rows), slice(x * scale, x * scale + columns))
        total[..., area[0], area[1]] += computed * weight
        weights[area] += weight
        on_tile(done, len(places))
    return total / weights


def _starts(side: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin along a side."""
    return [0] if side <= tile else list(range(0, side - overlap, tile - overlap))
