"""Nodes that give a UNet a picture, in channels that are concatenated to the latent."""

from __future__ import annotations

import dataclasses

from nodegraph import Run, node
from nodegraph_diffusion.checkpoint import UNetPart
from nodegraph_nodes.models.autoencoder import encode_pictures
from nodegraph_nodes.models.extra_channels import Kind, require_kind
from nodegraph_nodes.nodes.mask import resize_mask
from nodegraph_nodes.nodes.outlines import mistakes, passes
from nodegraph_nodes.types import VAE, Concat, Image, Latent, Mask, UNetModel


def _check_kind(kind: Kind, unet: object) -> list[str]:
    return mistakes(lambda: require_kind(unet, kind)) if isinstance(unet, UNetPart) else []


@node(
    "ApplyInpaint",
    numeric=True,
    check=lambda unet=None, **_: _check_kind("inpaint", unet),
    outline=passes(output="unet"),
    foreign_names=("InpaintModelConditioning",),
)
def apply_inpaint(unet: UNetModel, vae: VAE, image: Image, mask: Mask, run: Run = Run()) -> UNetModel:
    """Give an inpainting UNet (9 input channels) the picture and the mask.

    The UNet repaints the white part of the mask, where it sees grey instead of the picture. Sample a latent of the same size. The
    rest of the picture may change slightly: to keep it exactly, use `Composite`.
    """
    from nodegraph_diffusion import masks

    require_kind(unet.part, "inpaint")
    size = (image.pixels.shape[1], image.pixels.shape[2])
    values = resize_mask(mask, size, run).values
    hidden = encode_pictures(vae, Image(masks.hide(image.pixels, values)), run)
    channels = masks.inpaint_channels(masks.extend(values, *hidden.padding), hidden.samples)
    return dataclasses.replace(unet, concat=Concat(channels, "inpaint"))


@node(
    "ApplyPix2Pix",
    check=lambda unet=None, **_: _check_kind("pix2pix", unet),
    outline=passes(output="unet"),
    foreign_names=("InstructPixToPixConditioning",),
)
def apply_pix2pix(unet: UNetModel, latent: Latent) -> UNetModel:
    """Give an InstructPix2Pix UNet (8 input channels) the picture to change.

    The prompt says how to change it. Start from an `EmptyLatent` of the same size.
    """
    require_kind(unet.part, "pix2pix")
    latent.require_space(unet.part.latent, "UNet sees")
    channels = latent.samples / unet.part.latent.scaling_factor
    return dataclasses.replace(unet, concat=Concat(channels, "pix2pix"))
