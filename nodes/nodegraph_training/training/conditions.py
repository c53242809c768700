"""What a denoiser is conditioned on besides a text: labels, boxes, maps and smaller pictures, made of a data set."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import numpy as np
import torch
from torch import Tensor

from nodegraph_diffusion.beside import MAP_PARTS, MOST_NOISE, map_channels, picture_channels
from nodegraph_diffusion.recipes.pictureworld import CLASSES, KINDS, downscaled
from nodegraph_diffusion.recipes.pictureworld.scene import MOST_THINGS
from nodegraph_diffusion.training.tasks.conditions import Condition, LabelCondition
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents
from nodegraph_training.data.picture_world import DrawnPictures
from nodegraph_training.training.examples import class_names

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.config import LatentSpace, UNetConfig
    from nodegraph_diffusion.training.loop.examples import BatchOrder
    from nodegraph_training.training.latents import Latents
    from nodegraph_training.types import ConditionKind, Pictures

BOX_FREQUENCIES: Final = 8
NO_CONTEXT: Final = 8
"""The width of the zeros that a UNet without a prompt attends to."""
_REMEMBERED: Final = 8192
"""How many maps or smaller pictures are kept in memory."""
_REPEATS: Final = math.lcm(*range(1, MOST_THINGS + 1))
"""So many rows hold any number of labels evenly often: to attention that is the same as each of them once."""
FACTORS: Final = {"half": 2, "quarter": 4}

Beside = Callable[[Sequence[int], tuple[int, int], torch.Generator | None], Tensor]
"""The channels (B, C, h, w) beside the latents of pictures; without a generator, smaller pictures get no noise."""


def config_of(kind: ConditionKind, pictures: Pictures, latent: LatentSpace, channels: int) -> dict[str, Any]:
    """What the config of a new UNet says about its condition. `channels` are those of its first level."""
    names = label_names(kind, pictures)
    if names is not None:
        frequencies = BOX_FREQUENCIES if kind == "layout" else None
        return {"context_dim": channels, "labels": names, "box_frequencies": frequencies}
    count = _channels_beside(kind, latent)
    beside = {"in_channels": latent.channels + count, "beside": "map" if kind == "map" else "picture"} if count else {}
    return {"context_dim": NO_CONTEXT, **beside}


def kind_of(config: UNetConfig, factor: int, text: bool) -> ConditionKind:
    """What a UNet is conditioned on; `factor` is that of its autoencoder, and `text` says whether there is a text encoder."""
    if config.labels is not None:
        return "class" if config.box_frequencies is None else "layout"
    if config.beside == "map":
        return "map"
    if config.beside == "picture":
        parts = round(((config.in_channels - config.out_channels - 1) / 3) ** 0.5)
        return "half" if factor // parts == FACTORS["half"] else "quarter"
    return "text" if text else "none"


def condition_of(config: UNetConfig) -> Condition:
    """The condition of a task that trains a UNet without a text."""
    return Condition(config.context_dim) if config.labels is None else LabelCondition(config.unsaid)


def label_names(kind: ConditionKind, pictures: Pictures) -> tuple[str, ...] | None:
    """The classes of the labels of pictures; None if they are not conditioned on labels."""
    if kind == "class":
        return tuple(class_names(pictures)[1])
    return cast(tuple[str, ...], KINDS) if kind == "layout" else None


def label_rows(kind: ConditionKind, pictures: Pictures, names: Sequence[str], count: int | None = None) -> Tensor:
    """The labels of the first `count` pictures (default: all), (N, L, LABEL_WIDTH)."""
    count = len(pictures) if count is None else min(count, len(pictures))
    if kind == "class":
        labels = [pictures.label(index) for index in range(count)]
        if unknown := {str(label) for label in labels if label not in names}:
            raise ValueError(
                f"data: expected pictures of classes that the UNet knows ({', '.join(names)}), found {', '.join(sorted(unknown))}"
            )
        return torch.tensor([[[names.index(cast(str, label)), 0.0, 0.0, 1.0, 1.0]] for label in labels])
    drawn = _drawn(pictures, "boxes")
    return torch.stack([_boxes(drawn, index) for index in range(count)])


def beside_of(kind: ConditionKind, pictures: Pictures) -> Beside | None:
    """What makes the channels beside latents; None if there are none."""
    if kind == "map":
        drawn = _drawn(pictures, "maps of classes")
        maps = lru_cache(maxsize=_REMEMBERED)(drawn.class_map)

        def map_beside(indices: Sequence[int], cells: tuple[int, int], generator: torch.Generator | None) -> Tensor:
            labels = torch.from_numpy(np.stack([maps(index) for index in indices])).long()
            return map_channels(labels, len(CLASSES), cells)

        return map_beside
    if kind not in FACTORS:
        return None
    small = lru_cache(maxsize=_REMEMBERED)(lambda index: downscaled(pictures.pixels(index), FACTORS[kind]))

    def small_beside(indices: Sequence[int], cells: tuple[int, int], generator: torch.Generator | None) -> Tensor:
        pixels = torch.from_numpy(np.stack([small(index) for index in indices])).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        if generator is None:
            return picture_channels(pixels, cells, torch.zeros(len(pixels)), torch.zeros_like(pixels))
        deviation = MOST_NOISE * torch.rand(len(pixels), generator=generator)
        return picture_channels(pixels, cells, deviation, torch.randn(pixels.shape, generator=generator))

    return small_beside


class ConditionedPictures:
    """Latents with labels (N, L, LABEL_WIDTH), with channels beside them, or with neither."""

    def __init__(self, latents: Latents, labels: Tensor | None, beside: Beside | None) -> None:
        self.latents, self.labels, self._beside = latents, labels, beside

    def __len__(self) -> int:
        return len(self.latents)

    def order(self, batch: int, seed: int) -> BatchOrder:
        """Batches of one size each."""
        return self.latents.order(batch, seed)

    def batch(self, indices: list[int], generator: torch.Generator) -> ConditionedLatents:
        """The latents with these indices."""
        return self.of(indices, generator)

    def of(self, indices: list[int], generator: torch.Generator | None = None) -> ConditionedLatents:
        """The latents with these indices; without a generator, smaller pictures get no noise."""
        latent = self.latents.stacked(indices)
        cells = (latent.shape[-2], latent.shape[-1])
        return ConditionedLatents(
            latent=latent,
            condition=torch.zeros(len(indices)) if self.labels is None else self.labels[indices],
            beside=None if self._beside is None else self._beside(indices, cells, generator),
        )


def _boxes(pictures: DrawnPictures, index: int) -> Tensor:
    """The labels of the things in a drawn picture, evenly repeated: (_REPEATS, LABEL_WIDTH); "there is no label" without any."""
    rows = [[box.label, box.left, box.top, box.right, box.bottom] for box in pictures.boxes(index)]
    rows = rows or [[float(len(KINDS)), 0.0, 0.0, 1.0, 1.0]]
    return torch.tensor(rows).repeat(_REPEATS // len(rows), 1)


def _drawn(pictures: Pictures, what: Literal["boxes", "maps of classes"]) -> DrawnPictures:
    if not isinstance(pictures, DrawnPictures):
        raise ValueError(f"data: expected the pictures of PictureWorld, which have {what}, found others; use another condition")
    return pictures


def _channels_beside(kind: ConditionKind, latent: LatentSpace) -> int:
    """How many channels a condition puts beside latents. Raises ValueError if a smaller picture is smaller than the latent."""
    if kind == "map":
        return len(CLASSES) * MAP_PARTS**2
    if kind not in FACTORS:
        return 0
    parts, rest = divmod(latent.factor, FACTORS[kind])
    if rest:
        raise ValueError(
            f"condition: expected an autoencoder with at least {FACTORS[kind]} pixels per cell for '{kind}', found {latent.factor}"
        )
    return 3 * parts**2 + 1
