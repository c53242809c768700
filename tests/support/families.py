"""A small model of each family, made of diffusers' and transformers' networks with synthetic weights."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import diffusers
import torch
import transformers

from nodegraph_diffusion.networks.config import CLIPTextConfig
from tests.support import small_networks as small
from tests.support.unet_configs import REFINER, SD2, SDXL

OPENCLIP: dict[str, Any] = {"activation": "gelu"}


def text_encoder(width: int, projected: bool, **more: Any) -> transformers.PreTrainedModel:
    config = CLIPTextConfig(vocab_size=514, width=width, layers=4, heads=2, max_length=16, mlp_width=96, projection=64, **more)
    return small.reference_text_encoder(config, projected)


def scheduler(**more: Any) -> diffusers.EulerDiscreteScheduler:
    return diffusers.EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, **more
    )


def vae(scaling_factor: float) -> diffusers.AutoencoderKL:
    model = small.reference_vae()
    model.register_to_config(scaling_factor=scaling_factor)
    return model


def sd2(folder: Path) -> diffusers.DiffusionPipeline:
    return diffusers.StableDiffusionPipeline(
        unet=small.reference_unet(dataclasses.replace(small.UNET, **SD2)),
        vae=vae(0.18215),
        text_encoder=text_encoder(128, projected=False, **OPENCLIP),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(small.write_tokenizer(folder / "vocabulary"), pad_token="!"),
        scheduler=scheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl(folder: Path) -> diffusers.DiffusionPipeline:
    vocabulary = small.write_tokenizer(folder / "vocabulary")
    return diffusers.StableDiffusionXLPipeline(
        unet=small.reference_unet(dataclasses.replace(small.UNET, **SDXL)),
        vae=vae(0.13025),
        text_encoder=text_encoder(48, projected=False),
        text_encoder_2=text_encoder(80, projected=True, **OPENCLIP),
        tokenizer=transformers.CLIPTokenizer.from_pretrained(vocabulary),
        tokenizer_2=transformers.CLIPTokenizer.from_pretrained(vocabulary, pad_token="!"),
        scheduler=scheduler(),
    )


def refiner(folder: Path) -> diffusers.DiffusionPipeline:
    return diffusers.StableDiffusionXLImg2ImgPipeline(
        unet=small.reference_unet(dataclasses.replace(small.UNET, **REFINER | {"added_dim": 64 + 5 * 256})),
        vae=vae(0.13025),
        text_encoder=None,
        text_encoder_2=text_encoder(128, projected=True, **OPENCLIP),
        tokenizer=None,
        tokenizer_2=transformers.CLIPTokenizer.from_pretrained(small.write_tokenizer(folder / "vocabulary"), pad_token="!"),
        scheduler=scheduler(),
        requires_aesthetics_score=True,
    )


FAMILIES = {"sd2": sd2, "sdxl": sdxl, "sdxl-refiner": refiner}


def encode(pipeline: diffusers.DiffusionPipeline, text: str) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Diffusers' encoding of a prompt, and the pooled encoding."""
    if isinstance(pipeline, diffusers.StableDiffusionPipeline):
        return pipeline.encode_prompt(text, "cpu", 1, False)[0], None
    embedding, _, pooled, _ = pipeline.encode_prompt(text, device="cpu", do_classifier_free_guidance=False)
    return embedding, pooled
