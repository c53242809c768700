"""Denoisers: functions of a noisy latent and its noise level that estimate the clean latent."""
