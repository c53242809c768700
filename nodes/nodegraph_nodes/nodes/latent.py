"""Nodes between pictures and latents, and the noise that a run starts from."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Help, Range, Run, Seed, node
from nodegraph_nodes.types import VAE, Image, Latent, Noise

Side = Annotated[int | None, Range(8, 8192), Help("in pixels; absent: the model's native size")]


@node("EmptyLatent", foreign_names=("EmptyLatentImage",))
def empty_latent(
    vae: VAE,
    width: Side = None,
    height: Side = None,
    batch: Annotated[int, Range(1, 4096), Help("how many pictures")] = 1,
) -> Latent:
    """A latent of zeros: what text-to-image starts from."""
    import torch

    native, config = vae.part.sample_size, vae.part.config
    size = (height or native, width or native)
    h, w = (-(-side // config.factor) for side in size)
    return Latent(torch.zeros(batch, config.latent_channels, h, w), size)


@node("VAEEncode", numeric=True, foreign_names=("VAEEncodeForInpaint",))
def vae_encode(
    vae: VAE,
    image: Image,
    sample: Annotated[bool, Help("draw from the encoder's distribution instead of taking its mean")] = False,
    seed: Seed = 0,
    run: Run = Run(),
) -> Latent:
    """Encode pictures into latents.

    Sides that the autoencoder's factor does not divide are padded; decoding crops them again.
    """
    return encoded(vae, image, run, seed if sample else None)


@node("VAEDecode", numeric=True)
def vae_decode(vae: VAE, latent: Latent, run: Run = Run()) -> Image:
    """Decode latents into pictures."""
    import torch

    channels = vae.part.config.latent_channels
    if latent.samples.shape[1] != channels:
        found = f"{latent.samples.shape[1]}; take the autoencoder of the model that the latent is for"
        raise ValueError(f"expected a latent of {channels} channels, which this autoencoder decodes, found one of {found}")
    network = vae.load(run)
    height, width = latent.size
    with torch.no_grad():
        pixels = network.decode(latent.samples.to(run.device) / vae.part.config.scaling_factor)  # (B, 3, H, W)
    pixels = (pixels[:, :, :height, :width].float() / 2 + 0.5).clamp(0, 1)
    return Image(pixels.permute(0, 2, 3, 1).contiguous().cpu())


@node("Noise", foreign_names=("KSampler", "KSamplerAdvanced", "SamplerCustom", "RandomNoise", "DisableNoise"))
def noise(
    like: Annotated[Latent, Help("the latent that the noise is for: it has its shape")],
    seed: Seed,
    draw: Annotated[
        Literal["per_picture", "sequential", "none"], Help("per_picture: alike in a batch and alone; none: zeros")
    ] = "per_picture",
) -> Noise:
    """Draw unit noise, on the CPU, so that a seed is the same picture on every device.

    `per_picture` gives picture k a generator seeded with seed + k; `sequential` draws all from one, as ComfyUI does. `none` is no
    noise at all: for a `Sampler` with a `start_step`, which goes on with a latent that another one left noisy at its `end_step`.
    """
    import torch

    from nodegraph_diffusion.sampling import draw_noise

    if draw == "none":
        return Noise(torch.zeros_like(like.samples), seed)
    return Noise(draw_noise(like.samples.shape, seed, draw), seed)


def encoded(vae: VAE, image: Image, run: Run, seed: int | None = None) -> Latent:
    """The mean of the latents that the autoencoder sees in pictures, or a draw of them from `seed`."""
    import torch
    import torch.nn.functional as F

    from nodegraph_diffusion.sampling import draw_noise

    network = vae.load(run)
    config = vae.part.config
    size = (image.pixels.shape[1], image.pixels.shape[2])
    padding = [(-side) % config.factor for side in size]
    pixels = image.pixels.permute(0, 3, 1, 2).to(run.device) * 2 - 1  # (B, 3, H, W)
    pixels = F.pad(pixels, (0, padding[1], 0, padding[0]), mode="replicate")
    with torch.no_grad():
        mean, log_variance = network.encode(pixels)  # (B, C, h, w)
        if seed is not None:
            mean = mean + (0.5 * log_variance).exp() * draw_noise(mean.shape, seed).to(mean.device)
    return Latent((mean * config.scaling_factor).cpu(), size)
