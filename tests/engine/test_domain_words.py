"""The engine uses no word from the domain of its packs: not in names, messages, docstrings or comments."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2] / "nodegraph"

WORDS = """
    ckpt ckpts safetensors png jpg jpeg webp
    picture pictures image images pixel pixels photo photos thumbnail thumbnails
    latent latents mask masks noise noises sigma sigmas prompt prompts
    sampler samplers denoise denoised denoiser denoisers denoising diffusion diffusers
    guidance conditioning checkpoint checkpoints embedding embeddings decoder decoders
    unet vae clip taesd lora loras controlnet torch pillow pil
"""
CAPITALS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def words(text: str) -> set[str]:
    """Every word in a text, including the parts of names, in lower case."""
    return {word.lower() for word in CAPITALS.findall(text)}


def test_words_in_names_are_found():
    assert words("load_previewDecoder(VAE, UNetDenoise)") >= {"load", "preview", "decoder", "vae", "denoise"}


def test_engine_uses_no_domain_words():
    banned = set(WORDS.split())
    used = [
        f"{path.relative_to(ROOT).as_posix()}:{number}: {sorted(found)}"
        for path in sorted(ROOT.rglob("*.py"))
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if (found := words(line) & banned)
    ]
    assert used == []
