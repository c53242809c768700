"""The vector conditioning of SDXL and its refiner: the pooled prompt, and sizes as sinusoids."""

from __future__ import annotations

import torch
from torch import Tensor

from nodegraph_diffusion.conditioning.prompt import Prompt, SizeConditioning
from nodegraph_diffusion.networks.unet import timestep_embedding

SINUSOIDS = 256  # for each number
AESTHETIC, UNAESTHETIC = 6.0, 2.5  # the scores that the refiner is told of, of good pictures and of bad ones


def vector_conditioning(prompt: Prompt, size: tuple[int, int], aesthetic: float, width: int) -> Tensor:
    """What a UNet with a vector conditioning of `width` is told besides the text: (1 or B, width) float32.

    After the pooled prompt, height and width of the picture, where it was cropped, and its height and width since, 256
    sinusoids each (Podell et al. 2023, sec. 2.2); the refiner is told of an aesthetic score instead of the last two. `size`
    (height, width) and `aesthetic` are what it is told where the prompt does not say. Raises ValueError where the prompt was
    encoded for another model.
    """
    if prompt.pooled is None:
        raise ValueError("prompt: expected a pooled encoding, which this UNet is told of, found none; encode it for this model")
    told = prompt.size or SizeConditioning()
    height = size[0] if told.height is None else told.height
    across = size[1] if told.width is None else told.width
    target_height = height if told.target_height is None else told.target_height
    target_width = across if told.target_width is None else told.target_width
    score = aesthetic if told.aesthetic is None else told.aesthetic
    common = (height, across, told.crop_y, told.crop_x)
    pooled = prompt.pooled
    for numbers in ((*common, target_height, target_width), (*common, score)):
        if pooled.shape[1] + len(numbers) * SINUSOIDS == width:
            sinusoids = timestep_embedding(torch.tensor(numbers, dtype=torch.float32), SINUSOIDS)  # (6 or 5, 256)
            return torch.cat([pooled, sinusoids.flatten().to(pooled).expand(pooled.shape[0], -1)], dim=1)
    raise ValueError(
        f"prompt: expected a pooled encoding of {width - 6 * SINUSOIDS} or {width - 5 * SINUSOIDS} values, as this UNet is told "
        f"of, found one of {pooled.shape[1]}; encode it with the text encoders of the same model"
    )
