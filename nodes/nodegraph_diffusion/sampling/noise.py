"""Sources of noise, always on the CPU, so that a seed gives the same picture on every device."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nodegraph_diffusion.sampling.protocols import NoiseSource

Draw = Literal["per_picture", "sequential"]
StepNoise = Literal["fresh", "comfyui"]

_DIGITS = 6  # digits of a level that torchsde resolves a path to by default
ROUNDING = 1e-5  # the relative rounding error that a level from a sampler or a schedule may have


def draw_noise(shape: Sequence[int], seed: int, draw: Draw = "per_picture", *, numbers: Sequence[int] | None = None) -> Tensor:
    """Unit noise to start from, `shape` (B, C, h, w), float32 on the CPU.

    `per_picture` draws picture k from its own generator, with the seed seed + k, so that its noise is the same in a batch and
    alone; `sequential` draws the whole batch from one generator, as in ComfyUI. `numbers` say which picture of a larger batch each
    one is, and so which noise it gets; default: 0, 1, ... . Raises ValueError for a seed outside [0, 2^64), another `draw`, and
    another count of `numbers` than B.
    """
    import torch

    _require_seed(seed)
    if numbers is not None and len(numbers) != shape[0]:
        raise ValueError(f"noise: expected a number for each of {shape[0]} pictures, found {len(numbers)}")
    if draw == "sequential" and numbers is not None:
        generator = torch.Generator().manual_seed(seed)
        drawn = [torch.randn(tuple(shape[1:]), generator=generator) for _ in range(max(numbers) + 1)]
        return torch.stack([drawn[number] for number in numbers])
    if draw == "sequential":
        return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))
    if draw != "per_picture":
        raise ValueError(f"noise: expected draw 'per_picture' or 'sequential', found {draw!r}")
    return _draw_each(shape, [torch.Generator().manual_seed(_picture_seed(seed, k)) for k in numbers or range(shape[0])])


def step_noise_source(
    kind: StepNoise, x: Tensor, seed: int, levels: tuple[float, float] | None = None, *, part: str = ""
) -> NoiseSource:
    """The source of the noise that stochastic samplers add, with the shape, dtype and device of `x` (B, C, h, w).

    `fresh` draws each picture from its own generator, derived from its seed and independent of its start noise. `comfyui` draws the
    whole batch from one generator that starts from `seed` again, as in ComfyUI 0.3.64: its first draw repeats the start noise of a
    `sequential` draw. With `levels`, the smallest and the largest noise level, the noise follows a Brownian path between them: the
    noise of a step is the sum of that of its halves, scaled to unit variance. Other `levels` give another path. The path is
    resolved to 1e-6 of a level. `part` names a later part of a run: its `fresh` draws are independent of those of the first; on a
    Brownian path they are anyway. Raises ValueError for a seed outside [0, 2^64) or another `kind`; the source raises ValueError
    for a step that leaves the path or is too short for it.
    """
    _require_seed(seed)
    if kind not in ("fresh", "comfyui"):
        raise ValueError(f"step noise: expected 'fresh' or 'comfyui', found {kind!r}")
    if levels is not None:
        return _brownian_source(kind, x, seed, levels)
    import torch

    if kind == "comfyui":
        generator = torch.Generator().manual_seed(seed)
        return lambda sigma_from, sigma_to: torch.randn(x.shape, generator=generator).to(x)
    generators = [torch.Generator().manual_seed(_step_seed(_picture_seed(seed, k), part)) for k in range(x.shape[0])]
    return lambda sigma_from, sigma_to: _draw_each(x.shape, generators).to(x)


def _brownian_source(kind: StepNoise, x: Tensor, seed: int, levels: tuple[float, float]) -> NoiseSource:
    """Increments of Brownian paths over the noise level: one path per picture, or one for all of them as in ComfyUI."""
    import torch
    import torchsde

    low, high = levels
    if kind == "comfyui":
        seeds, shape = [seed], tuple(x.shape)
    else:
        seeds, shape = [_step_seed(_picture_seed(seed, k)) for k in range(x.shape[0])], tuple(x.shape[1:])
    trees = [torchsde.BrownianTree(t0=low, w0=torch.zeros(shape), t1=high, entropy=entropy) for entropy in seeds]

    def noise(sigma_from: float, sigma_to: float) -> Tensor:
        start, end = sorted((float(sigma_from), float(sigma_to)))
        ends = _on_path(start, end, low, high)
        increments = [tree(*ends) for tree in trees]
        increment = increments[0] if kind == "comfyui" else torch.stack(increments)
        sign = 1 if sigma_from < sigma_to else -1
        unit: Tensor = increment * sign / torch.tensor(end - start).sqrt()
        return unit.to(x)

    return noise


def _on_path(start: float, end: float, low: float, high: float) -> tuple[float, float]:
    """The ends of a step, rounded to the digits of the path and kept between its ends `low` and `high`."""
    if start < low * (1 - ROUNDING) or end > high * (1 + ROUNDING):
        raise ValueError(
            f"noise: expected a step between the noise levels {low:g} and {high:g} of the Brownian path, found {start:g} and "
            f"{end:g}; a step to level 0 draws no noise"
        )
    first, last = (min(max(round(level, _DIGITS), round(low, _DIGITS)), round(high, _DIGITS)) for level in (start, end))
    if first == last:
        raise ValueError(
            f"noise: expected a step of at least 1e-{_DIGITS}, the resolution of a Brownian path, found one between "
            f"{start:.9g} and {end:.9g}; use fewer steps"
        )
    return first, last


def _draw_each(shape: Sequence[int], generators: Sequence[torch.Generator]) -> Tensor:
    import torch

    return torch.stack([torch.randn(tuple(shape[1:]), generator=generator) for generator in generators])


def _picture_seed(seed: int, k: int) -> int:
    return (seed + k) % 2**64


def _step_seed(seed: int, part: str = "") -> int:
    """A seed that is unlikely to be chosen by people; another one for each `part` of a run."""
    return int.from_bytes(hashlib.sha256(f"step noise {seed}{part}".encode()).digest()[:8], "little")


def _require_seed(seed: int) -> None:
    if not 0 <= seed < 2**64:
        raise ValueError(f"noise: expected a seed between 0 and 2^64 - 1, found {seed}")
