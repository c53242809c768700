"""What a denoiser learns to predict, and how much each noise level counts.

`signal` is the signal's share of the variance at a training step (alphas_cumprod), shaped like the values or (B, 1, ...): a noisy
value is sqrt(signal) * clean + sqrt(1 - signal) * noise (Ho et al. 2020, eq. 4).
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor

Target = Literal["eps", "x0", "v"]
"""The noise (Ho et al. 2020), the clean value, or the velocity (Salimans & Ho 2022)."""


def add_noise(clean: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """The noisy value (Ho et al. 2020, eq. 4)."""
    return signal.sqrt() * clean + (1 - signal).sqrt() * noise


def training_target(target: Target, *, clean: Tensor, noise: Tensor, signal: Tensor) -> Tensor:
    """What the network should predict from the noisy value."""
    if target == "eps":
        return noise
    if target == "x0":
        return clean
    return signal.sqrt() * noise - (1 - signal).sqrt() * clean


def predicted_clean(target: Target, predicted: Tensor, *, noisy: Tensor, signal: Tensor) -> Tensor:
    """The clean value that a prediction stands for. For "eps", `signal` must not be 0."""
    if target == "eps":
        return (noisy - (1 - signal).sqrt() * predicted) / signal.sqrt()
    if target == "x0":
        return predicted
    return signal.sqrt() * noisy - (1 - signal).sqrt() * predicted


def clean_error_factor(target: Target, signal: Tensor) -> Tensor:
    """The squared error of the clean value divided by the squared error of the prediction, shaped like `signal`.

    (1 - signal) / signal for "eps", 1 for "x0", 1 - signal for "v".
    """
    if target == "eps":
        return (1 - signal) / signal
    return signal.new_ones(signal.shape) if target == "x0" else 1 - signal


def min_snr_weight(target: Target, signal: Tensor, cap: float = 5.0) -> Tensor:
    """The weight min(SNR, cap) of the clean value's squared error, for this target's (Hang et al. 2023, sec. 3.4).

    SNR = signal / (1 - signal). The weight is min(SNR, cap) / SNR for "eps", min(SNR, cap) for "x0", and min(SNR, cap) / (SNR + 1)
    for "v". At a level without signal, "eps" has the limit 1 and "v" 0.
    """
    snr = signal / (1 - signal)
    if target == "eps":
        return (cap / snr).clamp_max(1.0)
    return snr.clamp_max(cap) * clean_error_factor(target, signal)
