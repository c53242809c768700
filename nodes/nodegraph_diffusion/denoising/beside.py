"""The channels that some networks see beside the latent, such as the picture and the mask of an inpainting network.

If no picture was given to it, an inpainting network sees the latent of the run and its mask. Only the run knows these, and the
network is behind any number of wrappers, so `sample` keeps them here, for its thread.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_repainted: ContextVar[Tensor | None] = ContextVar("repainted", default=None)


@contextlib.contextmanager
def repainting(channels: Tensor | None) -> Iterator[None]:
    """During the block, a latent is repainted: the channels are its mask and the latent itself, (B, 1 + C, h, w)."""
    token = _repainted.set(channels)
    try:
        yield
    finally:
        _repainted.reset(token)


def channels_beside(concat: Tensor | None, no_picture: Tensor | None) -> Tensor | None:
    """What a network sees: its own channels `concat`, else those of the run if it has a mask, else those for `no_picture`.

    Only inpainting networks have `no_picture`.
    """
    if concat is not None or no_picture is None:
        return concat
    repainted = _repainted.get()
    return no_picture if repainted is None else repainted


def fitting(x: Tensor, channels: Tensor) -> Tensor:
    """The channels beside x (B, C, h, w), (1 or B, C', h, w). Raises ValueError if they do not fit it."""
    if tuple(channels.shape[-2:]) not in ((x.shape[-2], x.shape[-1]), (1, 1)) or channels.shape[0] not in (1, x.shape[0]):
        raise ValueError(
            f"the channels beside the latent: expected ({x.shape[0]} or 1, C, {x.shape[-2]}, {x.shape[-1]}), as the latent has, "
            f"found {tuple(channels.shape)}; give a picture of the latent's size, or one for each latent"
        )
    return channels.expand(-1, -1, *x.shape[-2:])
