"""Sampling methods, one file each: functions over a denoiser that read like the papers' algorithms."""
