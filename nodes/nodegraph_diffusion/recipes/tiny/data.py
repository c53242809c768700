"""The training set: scenes by number, and their pictures in a memory-mapped file."""

from __future__ import annotations

from multiprocessing import get_context
from pathlib import Path
from random import Random
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nodegraph_diffusion.recipes.tiny.world import Scene, draw, sample_scene

Split = Literal["train", "valid", "held-out", "judge"]
"""`valid`: training combinations in new scenes; `held-out`: only held-out combinations; `judge`: any, with up to 3 things."""

SIZE = 64


def scene(split: Split, index: int) -> Scene:
    """The scene with a number: the same on every machine."""
    random = Random(f"{split}-{index}")
    if split == "judge":
        return sample_scene(random, combinations="all", count=random.choices((0, 1, 2, 3), weights=(5, 35, 50, 10))[0])
    return sample_scene(random, combinations="held-out" if split == "held-out" else "training")


def pictures(split: Split, count: int, size: int = SIZE) -> NDArray[np.uint8]:
    """The first pictures of a split, newly drawn: (count, size, size, 3)."""
    return np.stack([draw(scene(split, index), size) for index in range(count)])


def _draw_training_range(start: int, stop: int) -> NDArray[np.uint8]:
    return np.stack([draw(scene("train", index), SIZE) for index in range(start, stop)])


def training_pictures(path: Path, count: int, processes: int) -> NDArray[np.uint8]:
    """The training split's pictures, (count, SIZE, SIZE, 3), memory-mapped from `path`. Draws the file if it does not exist."""
    shape = (count, SIZE, SIZE, 3)
    if not path.exists():
        partial = path.with_suffix(".partial")
        target = np.memmap(partial, np.uint8, "w+", shape=shape)
        starts = range(0, count, 500)
        with get_context("spawn").Pool(processes) as pool:
            jobs = [(start, pool.apply_async(_draw_training_range, (start, min(start + 500, count)))) for start in starts]
            for start, job in jobs:
                block = job.get()
                target[start : start + len(block)] = block
        target.flush()
        partial.replace(path)
    return np.memmap(path, np.uint8, "r", shape=shape)
