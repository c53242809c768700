"""The vector conditioning of SDXL and its refiner: the pooled prompt, and sizes as sinusoids."""

from __future__ import annotations

import torch
from torch import Tensor

from nodegraph_diffusion.conditioning.prompt import Prompt, SizeConditioning
from nodegraph_diffusion.networks.unet import timestep_embedding

SINUSOIDS = 256  # for each number
AESTHETIC, UNAESTHETIC = 6.0, 2.5  # the refiner's default scores for positive and negative prompts


def vector_conditioning(prompt: Prompt, size: tuple[int, int], aesthetic: float, width: int) -> Tensor:
    """The vector conditioning of `width` for a UNet: (1 or B, width) float32.

    It is the pooled prompt, then the picture's height and width before cropping, where it was cropped, and its height and width
    after cropping, 256 sinusoids each (Podell et al. 2023, sec. 2.2); the refiner has an aesthetic score instead of the last two.
    `size` (height, width) and `aesthetic` are the defaults for values that the prompt does not set. Raises ValueError if the prompt
    was encoded for another model.
    """
    if prompt.pooled is None:
        raise ValueError("prompt: expected a pooled encoding, which this UNet needs, found none; encode it for this model")
    sizes = prompt.size or SizeConditioning()
    height = size[0] if sizes.height is None else sizes.height
    original_width = size[1] if sizes.width is None else sizes.width
    target_height = height if sizes.target_height is None else sizes.target_height
    target_width = original_width if sizes.target_width is None else sizes.target_width
    score = aesthetic if sizes.aesthetic is None else sizes.aesthetic
    common = (height, original_width, sizes.crop_y, sizes.crop_x)
    pooled = prompt.pooled
    for numbers in ((*common, target_height, target_width), (*common, score)):
        if pooled.shape[1] + len(numbers) * SINUSOIDS == width:
            sinusoids = timestep_embedding(torch.tensor(numbers, dtype=torch.float32), SINUSOIDS)  # (6 or 5, 256)
            return torch.cat([pooled, sinusoids.flatten().to(pooled).expand(pooled.shape[0], -1)], dim=1)
    raise ValueError(
        f"prompt: expected a pooled encoding of {width - 6 * SINUSOIDS} or {width - 5 * SINUSOIDS} values, as this UNet "
        f"needs, found one of {pooled.shape[1]}; encode it with the text encoders of the same model"
    )
