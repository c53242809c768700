"""Encoded prompts, and where and when each applies: plain data, importable without torch."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from nodegraph_diffusion.conditioning.steps import StepCondition

TENSORS = ("embedding", "pooled", "mask", "images")  # the fields of a Prompt that are tensors or None


@dataclass(frozen=True)
class Area:
    """A rectangle of the picture, in pixels, or with `fraction` in fractions of its height and width.

    Raises ValueError if it has no height or width, or begins outside the picture.
    """

    height: float
    width: float
    y: float
    x: float
    _: KW_ONLY
    fraction: bool = False

    def __post_init__(self) -> None:
        if not (0 < self.height < math.inf and 0 < self.width < math.inf and 0 <= self.y < math.inf and 0 <= self.x < math.inf):
            raise ValueError(f"area: expected a height and width above 0 and y and x of at least 0, found {self}")


@dataclass(frozen=True, kw_only=True)
class SizeConditioning:
    """The size conditioning of SDXL, in pixels (Podell et al. 2023, sec. 2.2).

    `height` and `width` are the picture's size before cropping, `crop_y` and `crop_x` say where it was cropped, and
    `target_height` and `target_width` are its size after that. None means the output size. `aesthetic` is the score that the
    refiner receives instead of the target size; None means 6 for a positive prompt, 2.5 for a negative one.
    """

    height: int | None = None
    width: int | None = None
    crop_y: int = 0
    crop_x: int = 0
    target_height: int | None = None
    target_width: int | None = None
    aesthetic: float | None = None


@dataclass(frozen=True, eq=False)
class Prompt:
    """An encoded prompt, its strength, and where in the picture and when in the sampling it applies.

    `embedding` is (1, L, D) or one for each picture, (B, L, D); `pooled` is (1 or B, P), for models that use it. `mask`
    (1 or B, H, W) in [0, 1] covers the whole picture and may have any size; with `mask_bounds`, only the rectangle around its
    non-black part is computed. `start` and `end` are fractions of the sampling by the model's timesteps: 0 is all noise, 1 is no
    noise. `steps` are conditions that all hold in the steps in which it applies. The prompts of one conditioning with the same
    `term` are averaged; terms are added with their `term_weight` (see `ComposedGuidance`). `images` (n, P) are the encodings of
    pictures from which `pooled` was made instead of a text (see `with_images`). Raises ValueError for numbers that are
    out of range.
    """

    embedding: Tensor
    _: KW_ONLY
    pooled: Tensor | None = None
    strength: float = 1.0
    area: Area | None = None
    mask: Tensor | None = None
    mask_strength: float = 1.0
    mask_bounds: bool = False
    start: float = 0.0
    end: float = 1.0
    size: SizeConditioning | None = None
    steps: tuple[StepCondition, ...] = ()
    term: int = 0
    term_weight: float = 1.0
    images: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("strength", "mask_strength"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}: expected a finite number of at least 0, found {getattr(self, name)}; 1 is usual")
        for name in ("start", "end"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name}: expected a fraction of the sampling between 0 and 1, found {getattr(self, name)}")

    def applies(self, step: int, steps: int) -> bool:
        """Whether it applies in step `step`, counted from 0, of `steps`."""
        return all(condition.holds(step, steps) for condition in self.steps)

    def map(self, function: Callable[[Tensor], Tensor]) -> Prompt:
        """The prompt with `function` applied to each of its tensors."""
        return dataclasses.replace(
            self,
            embedding=function(self.embedding),
            pooled=None if self.pooled is None else function(self.pooled),
            mask=None if self.mask is None else function(self.mask),
            images=None if self.images is None else function(self.images),
        )
