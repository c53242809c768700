"""Training of the denoiser: a UNet that predicts the velocity of noisy latents, given a caption.

Besides, linear heads read from the UNet's features which thing is in which cell, at every noise level (as representations are
aligned in Yu et al. 2024, "REPA", here with the drawn scene itself). That teaches the UNet early which words belong to which
things. The heads are discarded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nodegraph_diffusion.networks.clip import CLIPTextModel
from nodegraph_diffusion.networks.unet import UNet, UNetConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule
from nodegraph_diffusion.recipes.embedded.data import training_scene
from nodegraph_diffusion.recipes.embedded.layout import CLASSES, cell_classes, thing_weights
from nodegraph_diffusion.recipes.embedded.text import WIDTH, random_caption, vocabulary
from nodegraph_diffusion.recipes.pictureworld.scene import Scene
from nodegraph_diffusion.training.loop.options import Schedule, TrainingOptions
from nodegraph_diffusion.training.loop.task import Losses, Moment, Task, TrainedNetwork
from nodegraph_diffusion.training.noising.targets import add_noise, training_target

CONFIG = UNetConfig(
    in_channels=8,
    out_channels=8,
    model_channels=64,
    channel_mult=(1, 2, 2),
    num_res_blocks=1,
    transformer_depth=(0, 1, 1),
    num_heads=4,
    context_dim=WIDTH,
    norm_groups=16,
)
NOISE_SCHEDULE = NoiseSchedule(prediction="v")
SCENES = 100_000
STEPS, SETTLING_STEPS, BATCH = 24_000, 6_000, 16
LEARNING_RATE = 6e-4
CAPTION_DROPOUT = 0.1
SNR_CAP = 5.0
READING_WEIGHT = 0.1
READ_BLOCK, READ_CELLS = 2, 8
"""The block of the way up whose features the heads read, 8x8 cells."""
PARTIAL_CAPTIONS, PARTIAL_SNR = 0.2, 0.15
"""How often the caption of a scene with several things names only some of them, if the signal is at least this strong.

At such levels, the things can be seen. So the denoiser learns to keep what a prompt for a hole does not name, and still paints
exactly what a caption names when it starts from noise.
"""


def options(steps: int, schedule: Schedule, seed: int = 0) -> TrainingOptions:
    """The options of the training: first with a constant rate, then with one that falls to zero."""
    return TrainingOptions(
        steps=steps,
        batch=BATCH,
        learning_rate=LEARNING_RATE,
        schedule=schedule,
        warm_up=min(500, steps // 10) if schedule == "constant" else 0,
        weight_decay=0.01,
        average=0.9995,
        seed=seed,
        save_every=100,
        log_every=100,
    )


def velocity_weights(signal: Tensor) -> Tensor:
    """The weight min(SNR + 1, cap) / (SNR + 1) of the velocity's squared error; `signal` as in `training.noising.targets`.

    That of Hang et al. 2023, sec. 3.4, would be min(SNR, cap) / (SNR + 1), which vanishes at the levels where a picture's
    composition is decided.
    """
    parts = 1 / (1 - signal)  # SNR + 1
    return parts.clamp_max(SNR_CAP) / parts


@dataclass(frozen=True, kw_only=True)
class CaptionedLatents:
    """Latents (B, c, h, w) of scenes, with what training needs to know about them.

    `tokens` (B, L) are those of a caption, and `partial_tokens` those of a caption that may name only some of the things;
    `weights` (B, 1, h, w) of the loss; `classes` (B, 2, READ_CELLS, READ_CELLS): what each cell shows.
    """

    latents: Tensor
    tokens: Tensor
    partial_tokens: Tensor
    weights: Tensor
    classes: Tensor


class CaptionedScenes:
    """The latents of training scenes (N, c, h, w), each time with another caption."""

    def __init__(self, latents: Tensor) -> None:
        self._latents = latents

    def __len__(self) -> int:
        return len(self._latents)

    def batch(self, indices: list[int], generator: torch.Generator, /) -> CaptionedLatents:
        """The latents of these scenes, with captions."""
        scenes = [training_scene(index) for index in indices]
        texts = [random_caption(each, generator) for each in scenes]
        partial = [self.partial_caption(each, text, generator) for each, text in zip(scenes, texts, strict=True)]
        return CaptionedLatents(
            latents=self._latents[indices].float(),
            tokens=torch.tensor([vocabulary().tokens(text) for text in texts]),
            partial_tokens=torch.tensor([vocabulary().tokens(text) for text in partial]),
            weights=torch.stack([thing_weights(each, self._latents.shape[-1]) for each in scenes])[:, None],
            classes=torch.stack([cell_classes(each, READ_CELLS) for each in scenes]),
        )

    @staticmethod
    def partial_caption(scene: Scene, text: str, generator: torch.Generator) -> str:
        """Sometimes a caption that names only some of a scene's things; else `text`."""
        count = len(scene.things)
        if count < 2 or float(torch.rand((), generator=generator)) >= PARTIAL_CAPTIONS:
            return text
        named = torch.randperm(count, generator=generator)[: int(torch.randint(1, count, (), generator=generator))]
        things = tuple(scene.things[i] for i in sorted(named.tolist()))
        return random_caption(replace(scene, things=things), generator)


class SceneDenoiserTask(Task[CaptionedLatents]):
    """Trains a UNet and the heads that read its features, with a text encoder that does not change."""

    def __init__(self, unet: UNet, text_encoder: CLIPTextModel) -> None:
        self.unet, self._text_encoder = unet, text_encoder.requires_grad_(False)
        self.heads = nn.Conv2d(unet.config.channel_mult[-1] * unet.config.model_channels, sum(CLASSES), 1)
        self._signal = NOISE_SCHEDULE.alphas_cumprod().float()
        self._features: Tensor | None = None
        unet.output_blocks[READ_BLOCK].register_forward_hook(self._keep)
        self._networks = {"denoiser": TrainedNetwork(module=nn.ModuleDict({"unet": unet, "heads": self.heads}), called=(unet,))}
        with torch.no_grad():
            self._empty = self._text_encoder(torch.tensor([vocabulary().tokens("")]))

    @property
    def networks(self) -> Mapping[str, TrainedNetwork]:
        """The UNet and the heads, which share an optimiser."""
        return self._networks

    def losses(self, batch: CaptionedLatents, moment: Moment) -> Losses:
        """The error of the velocity, and that of what the heads read."""
        latents, count, generator = batch.latents, len(batch.latents), moment.generator
        # one timestep from each of B equal parts, so that each batch has all noise levels
        parts = (torch.randperm(count, generator=generator) + torch.rand(count, generator=generator)) / count
        timesteps = (parts * len(self._signal)).long().clamp_max(len(self._signal) - 1)
        signal = self._signal[timesteps].view(-1, 1, 1, 1)
        noise = moment.noise_like(latents)
        predicted = self.unet(add_noise(latents, noise, signal), timesteps.float(), self._context(batch, signal, generator))
        velocity = training_target("v", clean=latents, noise=noise, signal=signal)
        error = (velocity_weights(signal) * batch.weights * (predicted - velocity).square()).mean()
        assert self._features is not None
        kinds, colours = self.heads(self._features).split(CLASSES, 1)
        reading = F.cross_entropy(kinds, batch.classes[:, 0]) + F.cross_entropy(colours, batch.classes[:, 1])
        return Losses(by_network={"denoiser": error + READING_WEIGHT * reading}, figures={"velocity": error, "reading": reading})

    @staticmethod
    def named_tokens(*, tokens: Tensor, partial_tokens: Tensor, signal: Tensor) -> Tensor:
        """The tokens of each caption, (B, L): of the partial one where the signal's share (B, 1, 1, 1) is large enough."""
        seen = (signal / (1 - signal)).flatten() >= PARTIAL_SNR
        return torch.where(seen[:, None], partial_tokens, tokens)

    @torch.no_grad()
    def _context(self, batch: CaptionedLatents, signal: Tensor, generator: torch.Generator) -> Tensor:
        """Encoded captions, (B, L, WIDTH); a tenth of them are of the empty caption."""
        tokens = self.named_tokens(tokens=batch.tokens, partial_tokens=batch.partial_tokens, signal=signal)
        encoded = self._text_encoder(tokens)
        dropped = torch.rand(len(encoded), generator=generator) < CAPTION_DROPOUT
        return torch.where(dropped[:, None, None], self._empty, encoded)

    def _keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self._features = output
