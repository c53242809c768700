"""The samplers and schedules of k-diffusion, to compare with: its file `sampling.py`, without the rest of the package.

The package's `__init__` imports training code, torchvision and torchdiffeq, which nothing here needs; of its other modules the
samplers use one function.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

import torch


def _load() -> Any:
    package = importlib.util.find_spec("k_diffusion")
    assert package is not None, "install it: pip install --no-deps k-diffusion (see README.md)"
    assert package.submodule_search_locations is not None
    utils = types.ModuleType("k_diffusion_only.utils")
    utils.append_dims = lambda x, dims: x[(...,) + (None,) * (dims - x.ndim)]  # type: ignore[attr-defined]
    parent = types.ModuleType("k_diffusion_only")
    parent.__path__ = list(package.submodule_search_locations)
    parent.utils = utils  # type: ignore[attr-defined]
    odeint = types.ModuleType("torchdiffeq")
    odeint.odeint = None  # type: ignore[attr-defined]  # for its likelihoods only
    sys.modules |= {"k_diffusion_only": parent, "k_diffusion_only.utils": utils}
    absent = importlib.util.find_spec("torchdiffeq") is None
    if absent:
        sys.modules["torchdiffeq"] = odeint
    try:
        return importlib.import_module("k_diffusion_only.sampling")
    finally:
        if absent:
            del sys.modules["torchdiffeq"]


SAMPLING = _load()


class KModel:
    """A denoiser of ours as k-diffusion calls it: with a noise level for each picture."""

    def __init__(self, denoise: Any) -> None:
        self.denoise = denoise

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor, **ignored: Any) -> torch.Tensor:
        return self.denoise(x, float(sigma.flatten()[0]))
