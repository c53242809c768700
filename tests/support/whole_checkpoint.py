"""A small model's tensors, as published single files hold them."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

from tests.support import small_networks as small

State = dict[str, Tensor]


def whole() -> State:
    """A small model's tensors under the published names, with what published files have besides. The caller may change them."""
    return {name: tensor.clone() for name, tensor in _tensors().items()}


@cache
def _tensors() -> State:
    text = {f"cond_stage_model.transformer.text_model.{k}": v for k, v in small.our_text_encoder().state_dict().items()}
    unet = {f"model.diffusion_model.{key}": value for key, value in small.our_unet().state_dict().items()}
    vae = {f"first_stage_model.{key}": value for key, value in small.our_vae().state_dict().items()}
    unused = {
        "alphas_cumprod": torch.ones(1000),
        "betas": torch.ones(1000),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(16)[None],
        "first_stage_model.loss.logvar": torch.zeros(()),
        "model_ema.diffusion_modeltime_embed0weight": torch.ones(4),
        "sqrt_recip_alphas_cumprod": torch.ones(1000),
    }
    return unet | vae | text | unused
