"""Nodes for networks that see more than the latent: channels beside it, of the picture to repaint or to change."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal

from nodegraph import Run, node
from nodegraph_nodes.nodes.latent import encoded
from nodegraph_nodes.nodes.mask import covering, resized
from nodegraph_nodes.types import VAE, Concat, Image, Latent, Mask, UNetModel

if TYPE_CHECKING:
    from torch import Tensor

KINDS: Final[Mapping[int, Literal["inpaint", "pix2pix"]]] = {5: "inpaint", 4: "pix2pix"}  # by how many channels there are more
NAMES: Final = {"inpaint": "inpainting", "pix2pix": "changing pictures by instructions"}
GREY: Final = (0.8223, -0.6876, 0.6364, 0.1380)  # a latent cell of a grey picture, as inpainting models are told without one


@node("ApplyInpaint", numeric=True, foreign_names=("InpaintModelConditioning",))
def apply_inpaint(unet: UNetModel, vae: VAE, image: Image, mask: Mask, run: Run = Run()) -> UNetModel:
    """Tell an inpainting model (9 input channels) what to repaint.

    It repaints where the mask is white, and sees grey there. A latent of the same size is painted by it; composite the result
    with the picture to keep the rest to the last bit.
    """
    import torch
    import torch.nn.functional as F

    _require(unet, "inpaint")
    white = resized(mask, (image.pixels.shape[1], image.pixels.shape[2]), run)
    keep = 1 - white.values[..., None].round()  # (1 or B, H, W, 1)
    seen = encoded(vae, Image((image.pixels - 0.5) * keep + 0.5), run)
    plane = F.interpolate(covering(white, seen, run), size=seen.samples.shape[-2:], mode="bilinear").round()  # (1 or B, 1, h, w)
    values = torch.cat([plane.expand(len(seen.samples), -1, -1, -1), seen.samples], dim=1)
    return dataclasses.replace(unet, concat=Concat(values, "inpaint"))


@node("ApplyPix2Pix", foreign_names=("InstructPixToPixConditioning",))
def apply_pix2pix(unet: UNetModel, latent: Latent) -> UNetModel:
    """Tell an InstructPix2Pix model (8 input channels) which picture to change.

    The prompt says how. Start from an `EmptyLatent` of the same size.
    """
    _require(unet, "pix2pix")
    scale = unet.part.latent.scaling_factor
    return dataclasses.replace(unet, concat=Concat(latent.samples / scale, "pix2pix"))


def beside(unet: UNetModel) -> Tensor | None:
    """The channels that the network sees beside the latent, (B, C, h, w): what it was told, or else that there is no picture.

    (1, C, 1, 1) where that is the same in every cell; None where it sees the latent alone.
    """
    import torch

    kind = _kind(unet)
    if unet.concat is not None:
        return unet.concat.values
    if kind == "inpaint":
        return torch.tensor([1.0, *GREY])[None, :, None, None]
    return None if kind is None else torch.zeros(1, 4, 1, 1)


def _kind(unet: UNetModel) -> Literal["inpaint", "pix2pix"] | None:
    config = unet.part.config
    return KINDS.get(config.in_channels - config.out_channels)


def _require(unet: UNetModel, kind: Literal["inpaint", "pix2pix"]) -> None:
    """Raises ValueError where the network sees something else beside the latent, or nothing."""
    if _kind(unet) != kind:
        config = unet.part.config
        expected = next(extra for extra, known in KINDS.items() if known == kind) + config.out_channels
        raise ValueError(
            f"unet: expected a network with {expected} input channels, as one for {NAMES[kind]} has, found one with "
            f"{config.in_channels}. Load a model that was trained for it"
        )
