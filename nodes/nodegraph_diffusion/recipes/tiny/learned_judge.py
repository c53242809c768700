"""The learned judge: a small convolutional network that recognises what a picture shows.

It is trained on drawn pictures of all combinations, the held-out ones included. They are distorted, so that it also works on
generated pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from nodegraph_diffusion.recipes.pixels import to_tensor
from nodegraph_diffusion.recipes.tiny.data import pictures, scene
from nodegraph_diffusion.recipes.tiny.world import COLOURS, KINDS, PLACES, TIMES, Request
from nodegraph_diffusion.recipes.tiny.world.scene import Scene
from nodegraph_diffusion.training.budget import cosine

CLASSES = (4, len(KINDS), len(COLOURS), len(KINDS), len(COLOURS), len(PLACES), len(TIMES))
"""The number of things, up to three; kind and colour of the leftmost and the rightmost one; place; time."""
UNKNOWN = -100
SHIPPED = Path(__file__).with_name("judge.safetensors")
"""The trained weights in the package, so that figures can be compared."""
BATCH = 64
PEAK_LR = 2e-3
SCENES = 16_000
STEPS = 1500


class JudgeNetwork(nn.Module):
    """Four convolutions with pooling; then rows are pooled, and columns kept, to distinguish left from right."""

    def __init__(self) -> None:
        super().__init__()
        widths = (3, 24, 32, 48, 64)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(nn.Conv2d(a, b, 3, padding=1), nn.GroupNorm(8, b), nn.SiLU(), nn.MaxPool2d(2))
                for a, b in pairwise(widths)
            ),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.SiLU(),
        )
        self.hidden = nn.Linear(64 * 4 * 2, 96)
        self.heads = nn.Linear(96, sum(CLASSES))

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """(B, 3, 64, 64) in [-1, 1] -> logits of each attribute, (B, classes)."""
        features = self.layers(pixels)  # (B, 64, 4, 4)
        columns = torch.cat([features.amax(2), features.mean(2)], 1).flatten(1)
        logits: tuple[Tensor, ...] = self.heads(F.silu(self.hidden(columns))).split(CLASSES, dim=1)
        return logits


def classes(scene: Scene) -> list[int]:
    """A scene as one class for each of CLASSES; UNKNOWN for missing things."""
    ends = (scene.things[:1] + scene.things[-1:]) if scene.things else ()
    things = [number for t in ends for number in (KINDS.index(t.kind), COLOURS.index(t.colour))] or [UNKNOWN] * 4
    return [len(scene.things), *things, PLACES.index(scene.place), TIMES.index(scene.time)]


def distort(pixels: Tensor) -> Tensor:
    """Change half of a batch (B, 3, H, W): blur, noise, and shifts of brightness and of each channel."""
    batch = len(pixels)
    blurred = F.interpolate(F.avg_pool2d(pixels, 2), scale_factor=2.0, mode="bilinear")
    amount = torch.rand(batch, 1, 1, 1) * 0.8
    changed = pixels + amount * (blurred - pixels)
    changed = changed * (1 + 0.08 * torch.randn(batch, 1, 1, 1)) + 0.04 * torch.randn(batch, 3, 1, 1)
    changed = changed + 0.08 * torch.rand(batch, 1, 1, 1) * torch.randn_like(pixels)
    return torch.where(torch.rand(batch, 1, 1, 1) < 0.5, changed, pixels).clamp(-1, 1)


def train_judge(seed: int, report: Callable[[str], None], scenes: int = SCENES, steps: int = STEPS) -> JudgeNetwork:
    """Train the network from scratch on the first pictures of the split "judge"."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    drawn = pictures("judge", scenes)
    expected = torch.tensor([classes(scene("judge", index)) for index in range(scenes)])
    network = JudgeNetwork()
    optimiser = torch.optim.AdamW(network.parameters(), lr=PEAK_LR, weight_decay=0.02, fused=True)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = cosine(PEAK_LR, step / steps, warm_up=0.03)
        chosen = random.integers(scenes, size=BATCH)
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(distort(to_tensor(drawn[chosen])))
        loss = torch.stack(
            [F.cross_entropy(each.float(), expected[chosen, slot], ignore_index=UNKNOWN) for slot, each in enumerate(logits)]
        ).sum()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % 250 == 0:
            report(f"judge {step / steps:4.0%}: loss {float(loss.detach()):.3f}")
    return network.requires_grad_(False)


class LearnedJudge:
    """A trained `JudgeNetwork` as a judge. Three things or more are more than any caption asks for."""

    def __init__(self, network: JudgeNetwork) -> None:
        self.network = network

    @classmethod
    def load(cls, file: Path) -> LearnedJudge:
        """Read the weights that `save` wrote."""
        network = JudgeNetwork().requires_grad_(False)
        network.load_state_dict(load_file(file))
        return cls(network.float())

    def save(self, file: Path) -> None:
        """Write the weights, float16 safetensors."""
        save_file({key: value.half().contiguous() for key, value in self.network.state_dict().items()}, file)

    @torch.no_grad()
    def __call__(self, pixels: NDArray[np.uint8]) -> list[Request]:
        """The content of each picture of (B, 64, 64, 3)."""
        answers = torch.stack([logits.argmax(1) for logits in self.network(to_tensor(pixels))], 1).tolist()
        return [_request(*answer) for answer in answers]


def _request(count: int, kind: int, colour: int, last_kind: int, last_colour: int, place: int, time: int) -> Request:
    first, last = (KINDS[kind], COLOURS[colour]), (KINDS[last_kind], COLOURS[last_colour])
    things = ((), (first,), (first, last), (first, first, last))[count]
    return Request(things, PLACES[place], TIMES[time])
