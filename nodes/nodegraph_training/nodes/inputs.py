"""Inputs that several training nodes have."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Continues, Help, Range
from nodegraph_training.types import TrainingOptions

Steps = Annotated[
    int, Range(1, 10_000_000), Continues(), Help("steps of the optimiser; with more of them, training continues where it was")
]
Batch = Annotated[int, Range(1, 4096), Help("pictures in each step")]
Rate = Annotated[float, Range(1e-9, 1), Help("learning rate")]
Weights = Annotated[Literal["simple", "min_snr"], Help("weights of the noise levels in the loss: all the same, or min-SNR")]
Dropout = Annotated[float, Range(0, 1), Help("share of the pictures that are learned without their caption")]
Channels = Annotated[int, Range(8, 4096), Help("channels of the first level; a multiple of 8")]
Levels = Annotated[list[int], Help("channels of each level, as multiples of those of the first; each has half the side")]
Depth = Annotated[list[int], Help("transformers after each block of a level")]
Options = Annotated[TrainingOptions | None, Help("of `TrainingOptions`: precision, memory, gradients, learning rate over time")]
