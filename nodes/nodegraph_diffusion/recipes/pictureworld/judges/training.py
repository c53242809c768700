"""Training of the learned judge on drawn pictures of all combinations, held-out ones included, most of them distorted."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from nodegraph_diffusion.recipes.pictureworld.captions import Reading, reading_of
from nodegraph_diffusion.recipes.pictureworld.drawing.picture import draw
from nodegraph_diffusion.recipes.pictureworld.judges.background import reduced
from nodegraph_diffusion.recipes.pictureworld.judges.distortions import distort
from nodegraph_diffusion.recipes.pictureworld.judges.network import CELLS, HEADS, SETTING, JudgeNetwork, LearnedJudge
from nodegraph_diffusion.recipes.pictureworld.sampling import scene
from nodegraph_diffusion.recipes.pictureworld.scene import COLOURS, KINDS, PLACES, SIZES, TIMES, UNIT
from nodegraph_diffusion.training.loop.metrics import Progress
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.task import Losses, Moment, Task, TrainedNetwork
from nodegraph_diffusion.training.loop.trainer import Trainer

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


@dataclass(frozen=True, kw_only=True)
class JudgedPictures:
    """Pictures (B, 3, GRID, GRID) in [0, 1], and what to answer: cells (B, 4, CELLS, CELLS) and settings (B, 2), int64."""

    pictures: Tensor
    cells: Tensor
    settings: Tensor


class JudgedScenes:
    """The first `count` scenes of the judge's seed. Each is drawn when it is first needed, and distorted anew every time."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._drawn = lru_cache(maxsize=count)(_example)

    def __len__(self) -> int:
        return self._count

    def batch(self, indices: list[int], generator: torch.Generator, /) -> JudgedPictures:
        """The pictures of these scenes, distorted."""
        pictures, cells, settings = zip(*(self._drawn(index) for index in indices), strict=True)
        distorted = distort(torch.stack(pictures).float() / 255, generator)
        return JudgedPictures(pictures=distorted, cells=torch.stack(cells), settings=torch.tensor(settings))


def _example(index: int) -> tuple[Tensor, Tensor, list[int]]:
    found = scene(SEED, index, combinations="all")
    return reduced(draw(found, SIDE)[None])[0].mul(255).round().byte(), *answers(reading_of(found))


class JudgeTask(Task[JudgedPictures]):
    """Trains a judge to give the right answers."""

    def __init__(self, network: JudgeNetwork) -> None:
        self.network = network
        self._networks = {"judge": TrainedNetwork(module=network)}

    @property
    def networks(self) -> Mapping[str, TrainedNetwork]:
        """The judge."""
        return self._networks

    def losses(self, batch: JudgedPictures, moment: Moment) -> Losses:
        """The losses of all answers."""
        return Losses(by_network={"judge": loss_of(self.network, batch.pictures, batch.cells, batch.settings)})


def options(steps: int, batch: int = BATCH, seed: int = 0) -> TrainingOptions:
    """The options that the judge is trained with."""
    return TrainingOptions(
        steps=steps,
        batch=batch,
        learning_rate=PEAK_LR,
        warm_up=steps // 30,
        weight_decay=0.02,
        average=0.998,
        seed=seed,
        save_every=200,
    )


def train_judge(
    folder: Path | None, chosen: TrainingOptions, *, scenes: int = SCENES, on_progress: Callable[[Progress], None] | None = None
) -> LearnedJudge:
    """Train the network from scratch, or continue from the state in the folder."""
    torch.manual_seed(chosen.seed)
    network = JudgeNetwork()
    trainer = Trainer(JudgeTask(network), JudgedScenes(scenes), chosen, folder=folder)
    trainer.run(on_progress=on_progress)
    trained = JudgeNetwork()
    with trainer.averaged():
        trained.load_state_dict(network.state_dict())
    return LearnedJudge(trained.eval().requires_grad_(False))
