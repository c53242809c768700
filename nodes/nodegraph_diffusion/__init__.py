"""Latent diffusion from scratch: networks, schedules, samplers and checkpoint loading, independent of any engine."""
