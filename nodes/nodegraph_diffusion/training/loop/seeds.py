"""Random numbers that depend only on a seed and on what they are for, so that a run can continue without saved generators."""

from __future__ import annotations

import hashlib

import torch


def derived_seed(seed: int, *purpose: str | int) -> int:
    """A seed in [0, 2^63) for one purpose, such as ("noise", step): the first bytes of a SHA-256."""
    text = "/".join(str(part) for part in (seed, *purpose))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") >> 1


def generator_for(seed: int, *purpose: str | int) -> torch.Generator:
    """A generator on the CPU for one purpose."""
    return torch.Generator().manual_seed(derived_seed(seed, *purpose))
