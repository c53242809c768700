"""Nodes for denoisers of pixels, which have no autoencoder."""

from __future__ import annotations

from typing import Annotated

from nodegraph import Help, Range, node
from nodegraph_nodes.types import Image, Latent

Side = Annotated[int, Range(8, 4096), Help("pixels")]


@node("EmptyPixels")
def empty_pixels(
    width: Side = 64,
    height: Side = 64,
    batch: Annotated[int, Range(1, 4096), Help("number of pictures")] = 1,
) -> Latent:
    """Make grey pixels, which text-to-image in pixel space starts from.

    For a UNet that `TrainDenoiser` trained without a `vae`.
    """
    import torch

    from nodegraph_training.training.sizes import PIXELS

    return Latent(torch.zeros(batch, PIXELS.channels, height, width), (height, width), PIXELS)


@node("PixelsToImage")
def pixels_to_image(latent: Latent) -> Image:
    """Show denoised pixels as pictures.

    For what a UNet makes that was trained without a `vae`; other latents are decoded by `VAEDecode`.
    """
    from nodegraph_training.training.sizes import PIXELS

    latent.require_space(PIXELS, "node shows")
    if latent.samples.shape[1] != PIXELS.channels:
        raise ValueError(f"latent: expected pixels, of 3 channels, found {latent.samples.shape[1]} channels; use VAEDecode")
    return Image((latent.samples / 2 + 0.5).clamp(0, 1).movedim(1, -1).contiguous())
