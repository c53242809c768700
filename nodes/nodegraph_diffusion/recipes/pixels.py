"""Pictures as tensors and back, and what every recipe does with an autoencoder of pictures."""

from __future__ import annotations

from collections.abc import Iterable
from copy import deepcopy
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.training.noising.latent_scale import scaling_factor


def to_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """8-bit pictures (B, H, W, 3) as the networks' (B, 3, H, W) float32 in [-1, 1]."""
    planes = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return planes.float().div_(127.5).sub_(1.0)


def to_pixels(tensor: Tensor) -> NDArray[np.uint8]:
    """The inverse of `to_tensor`, clamped and rounded."""
    pixels: NDArray[np.uint8] = tensor.float().clamp(-1, 1).add(1).mul(127.5).round().byte().permute(0, 2, 3, 1).numpy()
    return pixels


@torch.no_grad()
def standardise(model: AutoencoderKL, sample: Iterable[NDArray[np.uint8]]) -> AutoencoderKL:
    """Fold the latents' mean and deviation per channel into the adjacent convolutions; decoded pictures do not change.

    `sample` are batches of pictures, (B, H, W, 3).
    """
    latents = torch.cat([model.encode(to_tensor(part))[0] for part in sample])
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    model = deepcopy(model)
    channels = len(mean)
    encode, decode = model.quant_conv, model.post_quant_conv
    assert encode.bias is not None
    assert decode.bias is not None
    encode.weight[:channels] /= deviation[:, None, None, None]
    encode.bias[:channels] = (encode.bias[:channels] - mean) / deviation
    encode.bias[channels:] -= 2 * deviation.log()
    decode.bias += decode.weight[:, :, 0, 0] @ mean
    decode.weight *= deviation[None, :, None, None]
    model.config = replace(model.config, scaling_factor=1.0)
    return model


@torch.no_grad()
def scaled(model: AutoencoderKL, sample: Iterable[NDArray[np.uint8]]) -> AutoencoderKL:
    """The model with the scaling factor that gives its latents the deviation 1.

    This is for codebooks, whose vectors stay as they are. `sample` are batches of pictures, (B, H, W, 3).
    """
    factor = scaling_factor(model.encode(to_tensor(part))[0] for part in sample)
    model = deepcopy(model)
    model.config = replace(model.config, scaling_factor=factor)
    return model
