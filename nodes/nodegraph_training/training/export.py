"""Writing a model in the layouts that other programs read."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch

from nodegraph_diffusion.checkpoint import save_diffusers, save_single_file
from nodegraph_nodes.models.text_encoders import load_text_tokenizer
from nodegraph_training.training.networks import own_text_encoder, own_unet, own_vae

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_nodes.types import VAE, TextEncoder, UNetModel


def write_model(
    path: Path,
    unet: UNetModel,
    vae: VAE,
    text_encoder: TextEncoder,
    *,
    layout: Literal["diffusers", "single_file"],
    dtype: str,
    run: Run,
) -> None:
    """Write a folder or a file. Raises ValueError for a model that the layout cannot hold."""
    networks = own_unet(unet, run), own_vae(vae, run)
    texts = [own_text_encoder(text_encoder, run, index) for index in range(len(text_encoder.parts))]
    chosen: torch.dtype = getattr(torch, dtype)
    if layout == "single_file":
        save_single_file(
            path,
            unet.part.kind,
            unet=networks[0],
            vae=networks[1],
            text_encoders=texts,
            noise_schedule=unet.part.noise_schedule,
            dtype=chosen,
        )
        return
    if len(texts) != 1:
        raise ValueError(f"layout: expected one text encoder for a diffusers folder, found {len(texts)}; use single_file")
    folder = text_encoder.parts[0].tokenizer
    if folder is None:
        raise ValueError("layout: expected a model with its own vocabulary for a diffusers folder, found CLIP's; use single_file")
    save_diffusers(
        path,
        *networks,
        texts[0],
        noise_schedule=unet.part.noise_schedule,
        tokenizer_folder=folder,
        special_tokens=load_text_tokenizer(text_encoder, run).special_ids,
        sample_size=vae.part.sample_size,
        dtype=chosen,
    )
