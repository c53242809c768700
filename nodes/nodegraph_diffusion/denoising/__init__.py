"""Denoisers: functions of a noisy latent and its noise level that estimate the clean latent."""

from __future__ import annotations

from nodegraph_diffusion.denoising.protocols import Condition, Denoiser, GuidedDenoiser, Predictions

__all__ = ["Condition", "Denoiser", "GuidedDenoiser", "Predictions"]
