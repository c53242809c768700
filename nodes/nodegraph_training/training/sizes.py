"""Sizes of networks as plain data, for the settings of trained values."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from nodegraph_diffusion.networks.config import LatentSpace

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.config import CLIPTextConfig, CLIPVisionConfig, UNetConfig, VAEConfig


PIXELS: Final = LatentSpace(3, 1, 1.0)
"""The space of pixels themselves, in [-1, 1]."""


def sizes_of(config: UNetConfig | VAEConfig | CLIPTextConfig | CLIPVisionConfig) -> dict[str, Any]:
    """The sizes as JSON has them: lists instead of tuples."""
    return {name: _as_lists(value) for name, value in asdict(config).items()}


def _as_lists(value: Any) -> Any:
    return [_as_lists(item) for item in value] if isinstance(value, list | tuple) else value
