"""Training of the text encoder: linear heads must read what a caption demands from the positions after its end.

A causal encoder reads the first thing before it knows where that one stands. With the loss on the later positions, it learns
order, binding and counts before the denoiser is trained, whose context then contains them. The heads are discarded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel
from nodegraph_diffusion.recipes.bytepairs import END, WordVocabulary
from nodegraph_diffusion.recipes.embedded.data import training_scene
from nodegraph_diffusion.recipes.pictureworld import COLOURS, KINDS, PLACES, SIZES, TIMES, caption, parse, words
from nodegraph_diffusion.recipes.pictureworld.captions import Demands, Style
from nodegraph_diffusion.recipes.pictureworld.captions.demands import LinkWord
from nodegraph_diffusion.recipes.pictureworld.scene import MOST_THINGS, Scene
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.loop.task import Losses, Moment, Task, TrainedNetwork

WIDTH, MAX_LENGTH = 128, 40
STEPS, BATCH = 4000, 64
SCENES = 400_000
STYLES: dict[Style, float] = {"full": 0.35, "mixed": 0.4, "open": 0.25}
"""How often captions of each style are read and painted."""

LINKS: tuple[LinkWord, ...] = ("left", "above", "beside", "between")
PAIRS = ((0, 1), (0, 2), (1, 2))
RELATIONS = 2 * len(LINKS) + 1
"""The classes of a pair of things: no relation; each link from the first to the second; each from the second to the first."""
SLOTS = (
    MOST_THINGS + 1,
    *(len(KINDS) + 1, len(COLOURS) + 1, len(SIZES) + 1) * MOST_THINGS,
    *(RELATIONS,) * len(PAIRS),
    len(PLACES) + 1,
    len(TIMES) + 1,
)
"""The classes of each attribute: number of things; kind, colour and size of each; relation of each pair; place; time. 0: open."""


@cache
def vocabulary() -> WordVocabulary:
    """The vocabulary of the picture world's captions."""
    return WordVocabulary(tuple(words()), MAX_LENGTH)


def config() -> CLIPTextConfig:
    """Four causal layers of width 128."""
    size = len(vocabulary().numbers)
    return CLIPTextConfig(vocab_size=size, width=WIDTH, layers=4, heads=4, max_length=MAX_LENGTH, mlp_width=4 * WIDTH)


def options(steps: int = STEPS, seed: int = 0) -> TrainingOptions:
    """The options of the training."""
    return TrainingOptions(
        steps=steps, batch=BATCH, learning_rate=1e-3, warm_up=min(200, steps // 10), average=0.998, seed=seed, save_every=200
    )


def random_caption(scene: Scene, generator: torch.Generator) -> str:
    """One of the captions of a scene, of a style that is as likely as STYLES says."""
    style = int(torch.multinomial(torch.tensor([*STYLES.values()]), 1, generator=generator))
    number = int(torch.randint(1 << 30, (), generator=generator))
    return caption(scene, number, [*STYLES][style])


def attributes(demands: Demands) -> list[int]:
    """What a caption demands as one class for each of SLOTS. Things are in the order of `_placed`."""
    things = [number for number, group in enumerate(demands.groups) for _ in range(group.count)]
    relations = _relations(demands, things)
    order = _placed(relations, len(things))
    classes = [len(things)]
    for position in range(MOST_THINGS):
        group = demands.groups[things[order[position]]] if position < len(order) else None
        classes.append(KINDS.index(group.kind) + 1 if group else 0)
        classes.append(COLOURS.index(group.colour) + 1 if group and group.colour else 0)
        classes.append(SIZES.index(group.size) + 1 if group and group.size else 0)
    for i, j in PAIRS:
        classes.append(relations.get((order[i], order[j]), 0) if j < len(order) else 0)
    place = PLACES.index(demands.place) + 1 if demands.place else 0
    time = TIMES.index(demands.time) + 1 if demands.time else 0
    return [*classes, place, time]


def _relations(demands: Demands, things: Sequence[int]) -> dict[tuple[int, int], int]:
    """The class of the relation of each pair of things that has one, in both orders."""
    relations: dict[tuple[int, int], int] = {}
    for link in demands.links:
        for i, group in enumerate(things):
            for j, other in enumerate(things):
                if i != j and group in link.subjects and other in link.objects:
                    forward = 1 + LINKS.index(link.word)
                    relations[i, j] = forward
                    relations[j, i] = forward if link.word == "beside" else forward + len(LINKS)
    return relations


def _placed(relations: Mapping[tuple[int, int], int], count: int) -> list[int]:
    """Things in the order in which they stand: what is left of or above another one comes first; else as the caption has them."""
    before = {1 + LINKS.index("left"), 1 + LINKS.index("above")}
    remaining, order = list(range(count)), []
    while remaining:
        free = [i for i in remaining if not any(relations.get((j, i)) in before for j in remaining)]
        order.append((free or remaining)[0])
        remaining.remove(order[-1])
    return order


@dataclass(frozen=True, kw_only=True)
class ReadCaptions:
    """Tokens (B, MAX_LENGTH) of captions, and their attributes (B, len(SLOTS)), int64."""

    tokens: Tensor
    attributes: Tensor


def read_captions(texts: Sequence[str]) -> ReadCaptions:
    """Captions as tokens, with what they demand."""
    return ReadCaptions(
        tokens=torch.tensor([vocabulary().tokens(text) for text in texts]),
        attributes=torch.tensor([attributes(parse(text)) for text in texts]),
    )


class CaptionsOfScenes:
    """Random captions of training scenes."""

    def __len__(self) -> int:
        return SCENES

    def batch(self, indices: list[int], generator: torch.Generator, /) -> ReadCaptions:
        """A caption of each of these scenes."""
        return read_captions([random_caption(training_scene(index), generator) for index in indices])


class Reader(nn.Module):
    """A text encoder, and linear heads that read every attribute at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = CLIPTextModel(config())
        self.heads = nn.Linear(WIDTH, sum(SLOTS))

    def forward(self, tokens: Tensor) -> tuple[Tensor, ...]:
        """(B, L) -> logits of each slot, (B, L, classes)."""
        logits: tuple[Tensor, ...] = self.heads(self.encoder(tokens)).split(SLOTS, dim=-1)
        return logits


class ReadingTask(Task[ReadCaptions]):
    """Trains a reader: cross entropy of every attribute at every position from the caption's end on."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self._networks = {"reader": TrainedNetwork(module=reader)}

    @property
    def networks(self) -> Mapping[str, TrainedNetwork]:
        """The reader."""
        return self._networks

    def losses(self, batch: ReadCaptions, moment: Moment) -> Losses:
        """The sum of the losses of all attributes."""
        after = batch.tokens == vocabulary().numbers[END]
        rows = after.nonzero()[:, 0]
        losses = [
            F.cross_entropy(logits[after], batch.attributes[rows, slot]) for slot, logits in enumerate(self.reader(batch.tokens))
        ]
        return Losses(by_network={"reader": torch.stack(losses).sum()})


@torch.no_grad()
def reading_accuracy(reader: Reader, texts: Sequence[str]) -> float:
    """The share of captions whose attributes are all read right at the last position."""
    batch = read_captions(texts)
    read = torch.stack([logits[:, -1].argmax(-1) for logits in reader(batch.tokens)], dim=1)
    return float((read == batch.attributes).all(1).float().mean())
