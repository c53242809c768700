"""Conditioning: encoded prompts, their regions, and the size conditioning of SDXL."""
