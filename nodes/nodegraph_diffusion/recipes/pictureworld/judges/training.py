"""Training of the learned judge on drawn pictures of all combinations, held-out ones included, most of them distorted."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.recipes.pictureworld.captions import Reading, reading_of
from nodegraph_diffusion.recipes.pictureworld.drawing.picture import draw
from nodegraph_diffusion.recipes.pictureworld.judges.background import reduced
from nodegraph_diffusion.recipes.pictureworld.judges.distortions import distort
from nodegraph_diffusion.recipes.pictureworld.judges.network import CELLS, HEADS, SETTING, JudgeNetwork
from nodegraph_diffusion.recipes.pictureworld.sampling import scene
from nodegraph_diffusion.recipes.pictureworld.scene import COLOURS, KINDS, PLACES, SIZES, TIMES, UNIT
from nodegraph_diffusion.training.budget import cosine

SEED = 1 << 20
"""The seed of the scenes: no other part of the project draws these."""
BATCH = 32
PEAK_LR = 2e-3
STEPS = 5000
SCENES = 20_000
"""How many different pictures are drawn; each is distorted anew whenever it is used."""
SIDE = 128
CENTRE_WEIGHT = 6.0
"""The weight of the cells with a centre: they are one in a hundred."""


def answers(reading: Reading) -> tuple[Tensor, list[int]]:
    """What the network should say: (4, CELLS, CELLS) int64 of centre, kind, colour and size, -1 where no centre is; the setting."""
    cells = torch.full((4, CELLS, CELLS), -1)
    cells[0] = 0
    for thing in reading.things:
        row, column = (min(max(place * CELLS // UNIT, 0), CELLS - 1) for place in (thing.y, thing.x))
        cells[:, row, column] = torch.tensor([1, KINDS.index(thing.kind), COLOURS.index(thing.colour), SIZES.index(thing.size)])
    return cells, [PLACES.index(reading.place), TIMES.index(reading.time)]


def loss_of(network: JudgeNetwork, pictures: Tensor, cells: Tensor, setting: Tensor) -> Tensor:
    """The sum of the losses of all answers; `cells` (B, 4, CELLS, CELLS), `setting` (B, 2).

    The cells beside a centre are not asked whether they have one: a thing near a cell's edge may be found on either side.
    """
    found, found_setting = network(pictures)
    centre, *named = torch.split(found.float(), HEADS, 1)
    is_centre = cells[:, :1].float()
    beside = F.max_pool2d(is_centre, 3, stride=1, padding=1) - is_centre
    weight = torch.where(is_centre > 0, CENTRE_WEIGHT, 1 - 0.9 * beside)
    total = F.binary_cross_entropy_with_logits(centre, is_centre, weight, reduction="sum") / (len(pictures) * 8)
    for number, logits in enumerate(named, 1):
        total = total + F.cross_entropy(logits, cells[:, number], ignore_index=-1)
    for number, logits in enumerate(torch.split(found_setting.float(), SETTING, 1)):
        total = total + F.cross_entropy(logits, setting[:, number])
    return total


def _example(index: int) -> tuple[Tensor, Tensor, list[int]]:
    found = scene(SEED, index, combinations="all")
    return reduced(draw(found, SIDE)[None])[0].mul(255).round().byte(), *answers(reading_of(found))


def batches(seed: int, scenes: int, steps: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Distorted pictures (B, 3, GRID, GRID), cells and settings; each picture is drawn when it is first needed."""
    drawn: dict[int, tuple[Tensor, Tensor, list[int]]] = {}
    random = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = random.integers(scenes, size=BATCH).tolist()
        for index in chosen:
            if index not in drawn:
                drawn[index] = _example(index)
        pictures, cells, settings = zip(*(drawn[index] for index in chosen), strict=True)
        yield distort(torch.stack(pictures).float() / 255, generator), torch.stack(cells), torch.tensor(settings)


def train_judge(
    report: Callable[[str], None], *, seed: int = 0, scenes: int = SCENES, steps: int = STEPS, keep: Callable[[JudgeNetwork], None]
) -> JudgeNetwork:
    """Train the network from scratch. `keep` receives it now and then, to save it."""
    torch.manual_seed(seed)
    network = JudgeNetwork()
    average = JudgeNetwork()
    average.load_state_dict(network.state_dict())
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_LR, weight_decay=0.02)
    recent = 0.0
    for step, (pictures, cells, settings) in enumerate(batches(seed, scenes, steps)):
        optimiser.param_groups[0]["lr"] = cosine(PEAK_LR, step / steps, warm_up=0.03)
        optimiser.zero_grad()
        loss = loss_of(network, pictures, cells, settings)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        with torch.no_grad():
            for mean, value in zip(average.parameters(), network.parameters(), strict=True):
                mean.lerp_(value, 1 - min(0.998, (1 + step) / (10 + step)))
        recent += 0.02 * (float(loss.detach()) - recent) if step else float(loss.detach())
        if step % 200 == 199 or step == steps - 1:
            report(f"judge, step {step + 1} of {steps}: loss {recent:.3f}")
            keep(average)
    return average.requires_grad_(False)
