"""Painting pictures under the conditions of a data set, to measure a model."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from nodegraph.plugin_api import dataclass
from nodegraph_diffusion.conditioning.prompt import Prompt
from nodegraph_nodes.models.autoencoder import decode_latent
from nodegraph_nodes.models.denoisers import load_denoisers
from nodegraph_nodes.models.text_encoders import load_readers
from nodegraph_nodes.nodes.labels import no_condition
from nodegraph_nodes.types import Concat, Conditioning, Latent
from nodegraph_training.training.conditions import beside_of, kind_of, label_rows
from nodegraph_training.training.sizes import PIXELS

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_nodes.types import VAE, TextEncoder, UNetModel
    from nodegraph_training.types import ConditionKind, Pictures

_AT_ONCE: Final = 16
"""How many pictures are painted together, unless each has a text."""


@dataclass(frozen=True, kw_only=True)
class Model:
    """A UNet, its autoencoder (None: it denoises pixels), and its text encoder (None: it receives no text)."""

    unet: UNetModel
    vae: VAE | None
    text_encoder: TextEncoder | None

    @property
    def kind(self) -> ConditionKind:
        """What it is conditioned on."""
        factor = PIXELS.factor if self.vae is None else self.vae.part.config.factor
        return kind_of(self.unet.part.config, factor, text=self.text_encoder is not None)


@dataclass(frozen=True, kw_only=True)
class HowToPaint:
    """Guidance, sampler and schedule; picture k begins with the noise of `seed` + k."""

    count: int
    cfg: float
    sampler: Any
    schedule: Any
    steps: int
    seed: int


@torch.no_grad()
def paint(pictures: Pictures, model: Model, how: HowToPaint, run: Run) -> Tensor:
    """Pictures (count, H, W, 3) under the conditions of the first pictures of a data set."""
    from nodegraph_diffusion.guidance import ClassifierFreeGuidance
    from nodegraph_diffusion.sampling import SAMPLERS, draw_noise, sample, sigmas_for
    from nodegraph_diffusion.schedules import SCHEDULES

    unet, vae, side = model.unet, model.vae, pictures.side
    space = PIXELS if vae is None else vae.part.config.latent
    method = SAMPLERS[how.sampler] if isinstance(how.sampler, str) else how.sampler
    schedule = SCHEDULES[how.schedule] if isinstance(how.schedule, str) else how.schedule
    levels = sigmas_for(schedule, unet.part.noise_schedule, how.steps, strength=1.0)
    cells = -(-side // space.factor)
    conditions = _Conditions(pictures, model, (cells, cells), run)
    count = min(how.count, len(pictures))
    painted: list[Tensor] = []
    for first in range(0, count, conditions.at_once):
        indices = range(first, min(first + conditions.at_once, count))
        conditioned, positive = conditions.of(indices)
        sides = load_denoisers(conditioned, run, positive=positive, negative=conditions.negative)
        shape, seed = (len(indices), space.channels, cells, cells), how.seed + first
        latent = sample(
            ClassifierFreeGuidance(sides["positive"], sides["negative"], how.cfg),
            torch.zeros(shape, device=run.device),
            draw_noise(shape, seed, "per_picture").to(run.device),
            method,
            sigmas=levels,
            seed=seed,
        ).cpu()
        if vae is None:
            painted.append((latent.float() / 2 + 0.5).clamp(0, 1).movedim(1, -1))
        else:
            painted.append(decode_latent(vae, Latent(latent.float(), (side, side), space), run).pixels)
        run.step(indices[-1] + 1, count)
    return torch.cat(painted)


class _Conditions:
    """What a model receives for the pictures of a data set."""

    def __init__(self, pictures: Pictures, model: Model, cells: tuple[int, int], run: Run) -> None:
        self._pictures, self._unet, self._cells, self._kind = pictures, model.unet, cells, model.kind
        self._readers = None if model.text_encoder is None else load_readers(model.text_encoder, run)
        names = model.unet.part.config.labels
        self._labels = None if names is None else label_rows(self._kind, pictures, names)
        self._beside = beside_of(self._kind, pictures)
        self.negative = self._read("") if self._kind == "text" else no_condition(model.unet)
        self.at_once = 1 if self._kind == "text" else _AT_ONCE

    def of(self, indices: range) -> tuple[UNetModel, Conditioning]:
        """The UNet with what it sees beside the latent, and the positive side."""
        if self._kind == "text":
            return self._unet, self._read(self._pictures.caption(indices[0]))
        positive = self.negative if self._labels is None else Conditioning((Prompt(self._labels[list(indices)]),))
        if self._beside is None:
            return self._unet, positive
        values = self._beside(indices, self._cells, None)
        concat = Concat(values, "map" if self._kind == "map" else "picture")
        return dataclasses.replace(self._unet, concat=concat), positive

    def _read(self, text: str) -> Conditioning:
        from nodegraph_diffusion.text.encode import read_prompt

        assert self._readers is not None
        return Conditioning((read_prompt(self._readers, text).map(lambda tensor: tensor.cpu()),))
