"""The learned judge: a small convolutional network that marks the centres of things, and names their kind, colour and size.

It reads a picture at 64x64 and answers for each cell of a 16x16 grid, so it counts any number of things and sees where they are.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nodegraph_diffusion.recipes.pictureworld.captions import Reading, Seen
from nodegraph_diffusion.recipes.pictureworld.judges.background import reduced
from nodegraph_diffusion.recipes.pictureworld.scene import COLOURS, KINDS, PLACES, SIZES, TIMES, UNIT

CELLS = 16
"""The side of the grid of answers."""
HEADS = [1, len(KINDS), len(COLOURS), len(SIZES)]
"""The answers of a cell: whether the centre of a thing is there; that thing's kind, colour and size."""
SETTING = [len(PLACES), len(TIMES)]
"""The answers for the whole picture."""
WIDTHS = (32, 64)
DILATIONS = (1, 2, 4, 1)


class JudgeNetwork(nn.Module):
    """Two convolutions that halve the picture, then four residual ones, of which some reach far."""

    def __init__(self) -> None:
        super().__init__()
        first, width = WIDTHS
        self.stem = nn.Sequential(
            nn.Conv2d(3, first, 4, stride=2, padding=1),
            nn.GroupNorm(8, first),
            nn.SiLU(),
            nn.Conv2d(first, width, 4, stride=2, padding=1),
            nn.GroupNorm(8, width),
            nn.SiLU(),
        )
        self.reach = nn.ModuleList(
            nn.Sequential(nn.Conv2d(width, width, 3, padding=dilation, dilation=dilation), nn.GroupNorm(8, width), nn.SiLU())
            for dilation in DILATIONS
        )
        self.cells = nn.Conv2d(width, sum(HEADS), 1)
        nn.init.constant_(self.cells.bias[:1], -4.0)  # type: ignore[index]
        self.setting = nn.Linear(2 * width, sum(SETTING))

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """(B, 3, GRID, GRID) in [0, 1] -> logits: of the cells (B, sum(HEADS), CELLS, CELLS), of the setting (B, sum(SETTING))."""
        features = self.stem(2 * pictures - 1)  # (B, width, CELLS, CELLS)
        for layer in self.reach:
            features = features + layer(features)
        pooled = torch.cat([features.mean((2, 3)), features.amax((2, 3))], 1)
        return self.cells(features), self.setting(pooled)


class LearnedJudge:
    """A trained `JudgeNetwork` as a judge."""

    def __init__(self, network: JudgeNetwork) -> None:
        self.network = network

    @classmethod
    def load(cls, file: Path) -> LearnedJudge:
        """Read the weights that `save` wrote."""
        network = JudgeNetwork().requires_grad_(False)
        network.load_state_dict(load_file(file))
        return cls(network.float().eval())

    def save(self, file: Path) -> None:
        """Write the weights, float16 safetensors."""
        save_file({key: value.half().contiguous() for key, value in self.network.state_dict().items()}, file)

    @torch.no_grad()
    def __call__(self, pixels: NDArray[np.uint8]) -> list[Reading]:
        """What each picture of (B, H, H, 3) shows; H is at least GRID."""
        readings: list[Reading] = []
        for batch in torch.split(reduced(pixels), 64):
            cells, setting = self.network(batch)
            readings += [_reading(*answers) for answers in zip(cells, setting, strict=True)]
        return readings


def _reading(cells: Tensor, setting: Tensor) -> Reading:
    """A centre is where the first logit is above 0 and the largest of its neighbourhood."""
    centre, kind, colour, size = torch.split(cells, HEADS)
    peaks = (centre > 0) & (F.max_pool2d(centre[None], 3, stride=1, padding=1)[0] == centre)
    things = []
    for row, column in peaks[0].nonzero().tolist():
        named = (int(each[:, row, column].argmax()) for each in (kind, colour, size))
        numbers = dict(zip(("kind", "colour", "size"), named, strict=True))
        x, y = ((2 * place + 1) * UNIT // (2 * CELLS) for place in (column, row))
        things.append(Seen(KINDS[numbers["kind"]], COLOURS[numbers["colour"]], SIZES[numbers["size"]], x=x, y=y))
    place, time = (int(each.argmax()) for each in torch.split(setting, SETTING))
    return Reading(tuple(things), PLACES[place], TIMES[time])
