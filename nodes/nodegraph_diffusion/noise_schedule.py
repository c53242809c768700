"""The noise schedule that a model was trained on.

A sampling schedule is a function of it and a number of steps (see `schedules`). Noise levels are sigmas in the variance-exploding
convention of Karras et al. 2022: x = latent + sigma * noise.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from torch import Tensor


_LEAST_SIGNAL = 4.8973451890853435e-08  # instead of none: ComfyUI's value, which keeps sigma finite
_MOST_STEPS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class NoiseSchedule:
    """The noise levels that a model was trained on; the defaults are those of Stable Diffusion 1.x.

    `steps` levels from betas that are linear in their square root between `beta_start` and `beta_end` (Rombach et al.
    2022, the released configuration). `prediction` is what the network predicts: the noise ("eps", Ho et al. 2020) or the
    velocity ("v", Salimans & Ho 2022). `zero_snr`: the last step holds no signal (Lin et al. 2023, "Common Diffusion Noise
    Schedules and Sample Steps are Flawed", Alg. 1). Raises ValueError unless 0 < beta_start < beta_end < 1, 2 <= steps <= 1e6.
    """

    steps: int = 1000
    beta_start: float = 0.00085
    beta_end: float = 0.012
    prediction: Literal["eps", "v"] = "eps"
    zero_snr: bool = False

    def __post_init__(self) -> None:
        if type(self.steps) is not int or not 2 <= self.steps <= _MOST_STEPS:
            raise ValueError(f"NoiseSchedule: expected 2 to {_MOST_STEPS:,} steps, found {self.steps}; Stable Diffusion has 1000")
        if not 0 < self.beta_start < self.beta_end < 1:
            raise ValueError(
                f"NoiseSchedule: expected 0 < beta_start < beta_end < 1, found {self.beta_start} and {self.beta_end}; "
                "Stable Diffusion has 0.00085 and 0.012"
            )
        if self.prediction not in ("eps", "v"):
            raise ValueError(f"NoiseSchedule: expected prediction 'eps' or 'v', found {self.prediction!r}")

    def alphas_cumprod(self) -> Tensor:
        """The signal's share of the variance at each training step, (steps,) float64, decreasing in (0, 1)."""
        import torch

        betas = torch.linspace(self.beta_start**0.5, self.beta_end**0.5, self.steps, dtype=torch.float64) ** 2
        alphas_cumprod = torch.cumprod(1 - betas, dim=0)
        if not self.zero_snr:
            return alphas_cumprod
        roots = alphas_cumprod.sqrt()
        rescaled = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])) ** 2
        rescaled[-1] = min(_LEAST_SIGNAL, float(rescaled[-2]) / 2)  # with many steps, the last but one has hardly any signal either
        return rescaled

    def sigmas(self) -> Tensor:
        """The noise level of each training step, (steps,) float32 on the CPU, increasing."""
        return _log_sigmas(self).exp().float()

    @property
    def sigma_min(self) -> float:
        """The smallest noise level that the model was trained on."""
        return float(self.sigmas()[0])

    @property
    def sigma_max(self) -> float:
        """The largest noise level that the model was trained on: where sampling from pure noise starts."""
        return float(self.sigmas()[-1])

    def timestep(self, sigma: float | Tensor) -> Tensor:
        """The training step of a noise level: float32, shaped like `sigma`, in [0, steps - 1].

        Between two steps it is linear in log sigma; a level outside the trained range has its nearest training step.
        """
        import torch

        table = _log_sigmas(self)
        log_sigma = torch.as_tensor(sigma, dtype=torch.float64, device="cpu").log()
        low = (torch.searchsorted(table, log_sigma.contiguous(), right=True) - 1).clamp(0, self.steps - 2)
        fraction = (log_sigma - table[low]) / (table[low + 1] - table[low])
        return (low + fraction).clamp(0, self.steps - 1).float()

    def nearest_step(self, sigma: float) -> int:
        """The training step whose level is nearest to a noise level, by log sigma: networks know whole training steps only.

        In ComfyUI's float32 arithmetic, which decides ties: some levels of evenly spaced schedules lie halfway between two
        steps. An exact tie goes to the earlier step.
        """
        import torch

        return int((_log_sigmas(self).float() - torch.tensor(sigma, dtype=torch.float32).log()).abs().argmin())

    def sigma_at(self, progress: float) -> float:
        """The noise level at a fraction of the sampling by timesteps: 0 is the last training step, 1 the first.

        Infinite at 0 and below, 0 at 1 and above, so that an interval that ends there includes every level.
        """
        if progress <= 0:
            return math.inf
        return 0.0 if progress >= 1 else float(self.sigma((1 - progress) * (self.steps - 1)))

    def sigma(self, timestep: float | Tensor) -> Tensor:
        """The noise level of a training step, whole or not: float32, shaped like `timestep`. Inverts `timestep`.

        In ComfyUI's float32 arithmetic, because the noise of a Brownian path depends on the last bit of a level.
        """
        import torch

        table = _log_sigmas(self).float()
        step = torch.as_tensor(timestep, dtype=torch.float32, device="cpu").clamp(0, self.steps - 1)
        part = step.frac()
        return ((1 - part) * table[step.floor().long()] + part * table[step.ceil().long()]).exp()


@functools.lru_cache(maxsize=16)
def _log_sigmas(schedule: NoiseSchedule) -> Tensor:
    """log sqrt((1 - acp) / acp) of each training step, (steps,) float64. All callers share the tensor: do not change it."""
    alphas_cumprod = schedule.alphas_cumprod()
    return 0.5 * ((1 - alphas_cumprod) / alphas_cumprod).log()
