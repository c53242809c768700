"""Pictures to latents and back, through a model's autoencoder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_nodes.models.parts import load_vae_network
from nodegraph_nodes.types import VAE, Image, Latent

if TYPE_CHECKING:
    from nodegraph import Run


def encode_pictures(vae: VAE, image: Image, run: Run, seed: int | None = None) -> Latent:
    """The latents of pictures: the mean of the encoder's distribution, or a sample that is drawn from `seed`.

    Sides that are not multiples of the autoencoder's factor are padded by repeating the edges.
    """
    import torch
    import torch.nn.functional as F

    from nodegraph_diffusion.sampling import draw_noise

    network, config = load_vae_network(vae, run), vae.part.config
    size = (image.pixels.shape[1], image.pixels.shape[2])
    rows, columns = ((-side) % config.factor for side in size)
    pixels = image.pixels.permute(0, 3, 1, 2).to(run.device) * 2 - 1  # (B, 3, H, W)
    pixels = F.pad(pixels, (0, columns, 0, rows), mode="replicate")
    with torch.no_grad():
        mean, log_variance = network.encode(pixels)  # (B, C, h, w)
        if seed is not None:
            mean = mean + (0.5 * log_variance).exp() * draw_noise(mean.shape, seed).to(mean.device)
    return Latent((mean * config.scaling_factor).cpu(), size, config.latent)


def decode_latent(vae: VAE, latent: Latent, run: Run) -> Image:
    """The pictures of latents, without what encoding padded. Raises ValueError if the numbers of channels differ."""
    import torch

    config = vae.part.config
    channels = latent.samples.shape[1]
    if channels != config.latent_channels:
        raise ValueError(
            f"expected a latent of {config.latent_channels} channels, which this autoencoder decodes, found one of {channels}; "
            f"use the autoencoder of the model that the latent is for"
        )
    latent.require_space(config.latent, "autoencoder decodes")
    network = load_vae_network(vae, run)
    height, width = latent.size
    with torch.no_grad():
        pixels = network.decode(latent.samples.to(run.device) / config.scaling_factor)  # (B, 3, H, W)
    pixels = (pixels[:, :, :height, :width].float() / 2 + 0.5).clamp(0, 1)
    return Image(pixels.permute(0, 2, 3, 1).contiguous().cpu())
