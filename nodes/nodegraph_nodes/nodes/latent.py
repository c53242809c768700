"""Nodes between pictures and latents, and the noise that sampling starts from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal

from nodegraph import Help, Range, Run, Seed, node
from nodegraph_nodes.models.autoencoder import decode_latent, encode_pictures
from nodegraph_nodes.nodes.repaint import crop_to_multiples
from nodegraph_nodes.types import VAE, Image, Latent, Noise

Side = Annotated[int | None, Range(8, 8192), Help("pixels; default: the model's native size")]


def _check_sizes(**literals: Any) -> Iterable[str]:
    sizes = [name for name, usual in (("width", None), ("height", None), ("batch", 1)) if literals.get(name) != usual]
    if literals.get("like", "linked") is not None and sizes:
        yield f"like and {' and '.join(sizes)} both set the size; leave one out"


@node("EmptyLatent", check=_check_sizes, foreign_names=("EmptyLatentImage",))
def empty_latent(
    vae: VAE,
    width: Side = None,
    height: Side = None,
    batch: Annotated[int, Range(1, 4096), Help("number of pictures")] = 1,
    like: Annotated[Latent | None, Help("a latent to take the size and the number of pictures from, instead")] = None,
) -> Latent:
    """Make a latent of zeros, which text-to-image starts from."""
    import torch

    part = vae.part
    if like is not None:
        like.require_space(part.config.latent, "VAE makes")
        return Latent(torch.zeros_like(like.samples), like.size, part.config.latent)
    native, config = part.sample_size, part.config
    size = (height or native, width or native)
    h, w = (-(-side // config.factor) for side in size)
    return Latent(torch.zeros(batch, config.latent_channels, h, w), size, config.latent)


@node("VAEEncode", numeric=True, foreign_names=("VAEEncodeForInpaint", "VAEEncodeTiled"))
def vae_encode(
    vae: VAE,
    image: Image,
    fit: Annotated[
        Literal["pad", "crop"], Help("sides that are not multiples of the VAE's factor: pad them, or crop them around the centre")
    ] = "pad",
    sample: Annotated[bool, Help("draw from the encoder's distribution instead of taking its mean")] = False,
    seed: Annotated[Seed, Help("seed for 'sample'")] = 0,
    run: Run = Run(),
) -> Latent:
    """Encode pictures into latents.

    Sides that are not multiples of the VAE's factor are padded, and decoding crops them again. With `fit: crop`, as in ComfyUI, the
    picture itself becomes smaller.
    """
    if fit == "crop":
        image = crop_to_multiples(image, vae.part.config.factor)
    return encode_pictures(vae, image, run, seed if sample else None)


@node("VAEDecode", numeric=True, foreign_names=("VAEDecodeTiled",))
def vae_decode(vae: VAE, latent: Latent, run: Run = Run()) -> Image:
    """Decode latents into pictures."""
    return decode_latent(vae, latent, run)


@node("Noise", foreign_names=("KSampler", "KSamplerAdvanced", "SamplerCustom", "RandomNoise", "DisableNoise"))
def noise(
    like: Annotated[Latent, Help("the latent that the noise is for; its shape is used, and which pictures of a batch it holds")],
    seed: Seed,
    draw: Annotated[
        Literal["per_picture", "sequential", "none"],
        Help("per_picture: a picture is the same in a batch and alone; sequential: as in ComfyUI; none: zeros"),
    ] = "per_picture",
) -> Noise:
    """Draw the noise that sampling starts from.

    It is drawn on the CPU, so a seed gives the same picture on every device. `per_picture` draws picture k from seed + k;
    `sequential` draws all pictures from one generator. `none` is for a `Sampler` with a `start_step` that continues from a latent
    which another one left noisy at its `end_step`. A latent that `FromBatch` took out of a batch gets the noise that it has there.
    """
    import torch

    from nodegraph_diffusion.sampling import draw_noise

    if draw == "none":
        return Noise(torch.zeros_like(like.samples), seed, draw, like.numbers)
    return Noise(draw_noise(like.samples.shape, seed, draw, numbers=like.numbers), seed, draw, like.numbers)
