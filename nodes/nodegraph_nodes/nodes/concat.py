"""Nodes that give a UNet a picture, in channels that are concatenated to the latent."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Annotated, Literal

from nodegraph import Help, Range, Run, Seed, node
from nodegraph_diffusion.checkpoint import UNetPart
from nodegraph_nodes.models.autoencoder import encode_pictures
from nodegraph_nodes.models.extra_channels import Kind, require_kind
from nodegraph_nodes.nodes.mask import resize_mask
from nodegraph_nodes.nodes.outlines import mistakes, passes
from nodegraph_nodes.types import VAE, Concat, Image, Latent, Mask, UNetModel

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.config import UNetConfig


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
    rest of the picture may change slightly: to keep it exactly, use `Composite`. Without this node, the UNet sees the latent and
    the mask of `Sampler`, whose picture should be one that `HideMasked` made.
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


@node("ApplyMap", outline=passes(output="unet"))
def apply_map(
    unet: Annotated[UNetModel, Help("a UNet that was trained with maps")],
    image: Annotated[Image, Help("the map, in the colours of `DrawnMap`: one for each class")],
) -> UNetModel:
    """Give a UNet the map of classes that it paints along.

    For a UNet that `TrainDenoiser` trained with `condition: map`. Sample a latent of the same size. Colours in between, such as
    those of a map that was resized smoothly, count as the nearest one.
    """
    from nodegraph_diffusion.beside import map_channels, map_classes, read_map

    config, factor = _require_beside(unet, "map"), unet.part.latent.factor
    height, width = image.pixels.shape[1:3]
    if height % factor or width % factor:
        raise ValueError(
            f"image: expected a map whose sides are multiples of {factor}, the side of a cell of the latent, found {width}x{height}"
        )
    classes = map_classes(config.in_channels - config.out_channels)
    channels = map_channels(read_map(image.pixels, classes), classes, (height // factor, width // factor))
    return dataclasses.replace(unet, concat=Concat(channels, "map"))


@node("ApplySmallPicture", outline=passes(output="unet"))
def apply_small_picture(
    unet: Annotated[UNetModel, Help("a UNet that was trained to enlarge pictures")],
    image: Annotated[Image, Help("the small picture")],
    noise: Annotated[float, Range(0, 0.4), Help("deviation of noise on it, in pixels of -1 to 1: it hides faults")] = 0.0,
    seed: Annotated[Seed, Help("seed of that noise")] = 0,
) -> UNetModel:
    """Give a UNet the picture that it enlarges.

    For a UNet that `TrainDenoiser` trained with `condition: half` or `quarter`. Sample a latent of two or four times the size.
    """
    import torch

    from nodegraph_diffusion.beside import picture_channels, picture_side
    from nodegraph_diffusion.sampling import draw_noise

    config = _require_beside(unet, "picture")
    cell = picture_side(config.in_channels - config.out_channels, 1)
    pixels = image.pixels.movedim(-1, 1) * 2 - 1
    height, width = pixels.shape[-2:]
    if height % cell or width % cell:
        raise ValueError(f"image: expected a picture whose sides are multiples of {cell}, found {width}x{height}; resize it")
    channels = picture_channels(
        pixels, (height // cell, width // cell), torch.full((len(pixels),), noise), draw_noise(pixels.shape, seed)
    )
    return dataclasses.replace(unet, concat=Concat(channels, "picture"))


def _require_beside(unet: UNetModel, kind: Literal["map", "picture"]) -> UNetConfig:
    """The config of a UNet. Raises ValueError if it does not receive such channels beside the latent."""
    config = unet.part.config
    if config.beside != kind:
        found = f"one with a {config.beside}" if config.beside else "one without"
        wanted = "'condition: map'" if kind == "map" else "'condition: half' or 'quarter'"
        raise ValueError(
            f"unet: expected one that sees a {kind} beside the latent, found {found}; train it with {wanted} of TrainDenoiser"
        )
    return config
