"""Nodes that find edges, for ControlNets that follow them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from nodegraph import Help, Range, node
from nodegraph_nodes.types import Image


def _check_order(**literals: Any) -> Iterable[str]:
    low, high = literals.get("low"), literals.get("high")
    if isinstance(low, int | float) and isinstance(high, int | float) and low > high:
        yield f"low {low} is above high {high}; exchange them"


@node("Canny", check=_check_order)
def canny(
    image: Image,
    low: Annotated[float, Range(0, 6), Help("gradients longer than this are edges if they are connected to stronger ones")] = 0.4,
    high: Annotated[float, Range(0, 6), Help("gradients longer than this are edges; a step from black to white has 4")] = 0.8,
) -> Image:
    """The edges of pictures, white on black (Canny 1986)."""
    from nodegraph_diffusion import masks
    from nodegraph_diffusion.canny import canny

    pixels = image.pixels
    if min(pixels.shape[1:3]) < 3:
        raise ValueError(
            f"image: expected sides of at least 3 pixels, found {pixels.shape[2]}x{pixels.shape[1]}. Give a larger one"
        )
    edges = canny(masks.luminance(pixels), low, high)  # (B, H, W)
    return Image(edges[..., None].expand(-1, -1, -1, 3).contiguous())
