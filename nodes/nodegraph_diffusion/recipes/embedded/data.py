"""The training pictures and captions: which scenes they are, and pixels as tensors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.pictureworld import draw, scene
from nodegraph_diffusion.recipes.pictureworld.scene import Scene

SIDE = 128
TRAINING_SEED, VALIDATION_SEED = 0, 1
"""The seeds of the scenes that networks learn from, and of those that they are measured on while they learn."""


def training_scene(index: int) -> Scene:
    """A scene that networks learn from; it has no held-out combination."""
    return scene(TRAINING_SEED, index)


def held_out_scenes(count: int) -> list[Scene]:
    """Scenes that no network learns from, half of them with held-out combinations."""
    half = count // 2
    return [
        *(scene(VALIDATION_SEED, index) for index in range(count - half)),
        *(scene(VALIDATION_SEED, index, combinations="held-out") for index in range(half)),
    ]


def pictures(scenes: Sequence[Scene], side: int = SIDE) -> NDArray[np.uint8]:
    """The pictures of scenes, (B, side, side, 3)."""
    return np.stack([draw(each, side) for each in scenes])
