"""The factor that gives an autoencoder's latents unit variance, which denoisers expect."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def scaling_factor(latents: Iterable[Tensor]) -> float:
    """1 / the standard deviation of all numbers of the latents, in batches of any shape (Rombach et al. 2022, appendix G).

    Computed in float64 around the mean. Raises ValueError if there are fewer than two numbers, or all are the same.
    """
    count, total, squares = 0, 0.0, 0.0
    for batch in latents:
        values = batch.detach().to("cpu", torch.float64)
        mean = total / count if count else float(values.mean())
        # Chan et al. 1983: the squares around the mean of both parts, without large sums that cancel
        part, size = float(values.mean()), values.numel()
        squares += float((values - part).square().sum()) + (part - mean) ** 2 * count * size / (count + size)
        total, count = total + float(values.sum()), count + size
    if count < 2 or squares <= 0:
        raise ValueError(f"scaling factor: expected latents that differ, found {count} numbers without a deviation")
    return float((squares / count) ** -0.5)
