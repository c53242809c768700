"""Training of the text encoder: linear heads must read a caption's attributes from the positions after its end.

A causal encoder reads the first thing before it knows whether that is on the left or on the right. With the loss on the later
positions, it learns order and binding before the training of the denoiser, whose context then contains them (see the trial in the
model card). The heads are discarded.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nodegraph_diffusion.networks.clip import CLIPTextConfig, CLIPTextModel
from nodegraph_diffusion.recipes.bytepairs import END
from nodegraph_diffusion.recipes.tiny.data import scene
from nodegraph_diffusion.recipes.tiny.vocabulary import MAX_LENGTH, vocabulary
from nodegraph_diffusion.recipes.tiny.world import COLOURS, KINDS, PLACES, TIMES, Request, Scene, caption, parse
from nodegraph_diffusion.training.budget import cosine

WIDTH = 128
BATCH = 128
PEAK_LR = 1e-3
STEPS = 500
SLOTS = (3, len(KINDS) + 1, len(COLOURS) + 1, len(KINDS) + 1, len(COLOURS) + 1, len(PLACES) + 1, len(TIMES) + 1)
"""The classes of each attribute: number of things; kind and colour of the left and the right one; place; time. 0: not given."""


def config() -> CLIPTextConfig:
    """Three causal layers of width 128 over the world's vocabulary."""
    size = len(vocabulary().numbers)
    return CLIPTextConfig(vocab_size=size, width=WIDTH, layers=3, heads=4, max_length=MAX_LENGTH, mlp_width=4 * WIDTH)


def attributes(request: Request) -> list[int]:
    """A request as one class for each of SLOTS."""
    things = []
    for kind, colour in (*request.things, (None, None), (None, None))[:2]:
        things += [KINDS.index(kind) + 1 if kind else 0, COLOURS.index(colour) + 1 if colour else 0]
    place = PLACES.index(request.place) + 1 if request.place else 0
    time = TIMES.index(request.time) + 1 if request.time else 0
    return [len(request.things), *things, place, time]


def caption_batch(scenes: list[Scene], random: Random) -> tuple[Tensor, Tensor]:
    """Random captions of scenes: tokens (B, MAX_LENGTH) and their attributes (B, len(SLOTS))."""
    texts = [caption(scene, random) for scene in scenes]
    return torch.tensor([vocabulary().tokens(text) for text in texts]), torch.tensor([attributes(parse(text)) for text in texts])


class Reader(nn.Module):
    """A text encoder, and linear heads that read every attribute at every position."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = CLIPTextModel(config())
        self.heads = nn.Linear(WIDTH, sum(SLOTS))

    def forward(self, token_numbers: Tensor) -> tuple[Tensor, ...]:
        """(B, L) -> logits of each slot, (B, L, classes)."""
        logits: tuple[Tensor, ...] = self.heads(self.encoder(token_numbers)).split(SLOTS, dim=-1)
        return logits


def reading_loss(reader: Reader, token_numbers: Tensor, expected: Tensor) -> Tensor:
    """Cross-entropy of every attribute at every position from the caption's end on."""
    after = token_numbers == vocabulary().numbers[END]
    rows = after.nonzero()[:, 0]
    losses = [F.cross_entropy(logits[after], expected[rows, slot]) for slot, logits in enumerate(reader(token_numbers))]
    return torch.stack(losses).sum()


@torch.no_grad()
def reading_accuracy(reader: Reader, scenes: list[Scene], random: Random) -> float:
    """The share of captions whose attributes are all read correctly at the last position."""
    token_numbers, expected = caption_batch(scenes, random)
    read = torch.stack([logits[:, -1].argmax(-1) for logits in reader(token_numbers)], dim=1)
    return float((read == expected).all(1).float().mean())


def train_text_encoder(seed: int, report: Callable[[str], None], steps: int = STEPS) -> CLIPTextModel:
    """Train the encoder from scratch on captions of training scenes. It does not change afterwards."""
    torch.manual_seed(seed)
    random = Random(f"text-{seed}")
    reader = Reader()
    optimiser = torch.optim.AdamW(reader.parameters(), lr=PEAK_LR, weight_decay=0.01, fused=True)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = cosine(PEAK_LR, step / steps, warm_up=0.05)
        scenes = [scene("train", random.randrange(10**7)) for _ in range(BATCH)]
        optimiser.zero_grad()
        reading_loss(reader, *caption_batch(scenes, random)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    report(f"text encoder: {_accuracies(reader)}")
    return reader.encoder.requires_grad_(False)


def _accuracies(reader: Reader) -> str:
    valid, held_out = (
        reading_accuracy(reader, [scene(split, i) for i in range(500)], Random("captions")) for split in ("valid", "held-out")
    )
    return f"reads {valid:.1%} of captions, {held_out:.1%} with held-out combinations"
