"""Training of the autoencoder: 128x128 pictures to 16x16 latents of unit variance, and back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nodegraph_diffusion.networks.vae import AutoencoderKL, Downsample, ResnetBlock, Upsample, VAEConfig
from nodegraph_diffusion.recipes.embedded.data import SIDE, held_out_scenes, pictures, training_scene
from nodegraph_diffusion.recipes.pictureworld.scene import UNIT, Scene
from nodegraph_diffusion.recipes.pixels import to_pixels, to_tensor
from nodegraph_diffusion.training.loop.options import TrainingOptions
from nodegraph_diffusion.training.tasks.autoencoder import AutoencoderTask, ReconstructionWeights

CONFIG = VAEConfig(
    channels=16,
    channel_mult=(1, 3, 2, 4),
    num_res_blocks=1,
    latent_channels=8,
    norm_groups=1,
    mid_attention=False,
    scaling_factor=1.0,
)
NARROW = replace(CONFIG, channels=8, channel_mult=(1, 2, 4, 8))
"""The network that learns first, in half of the time. The other one starts from it, and reaches what this one cannot."""
WEIGHTS = ReconstructionWeights(squares=8.0, perceptual=0.0, bottleneck=1e-3)
NARROW_STEPS, STEPS, BATCH, LEARNING_RATE = 36_000, 16_000, 2, 2e-3
"""Many small steps: they learn more in the same time than fewer steps of more crops."""
CROPS, CROP, CROPS_OF_THINGS, SHIFT = 2, 64, 0.75, 20
"""How many crops of each picture, their side in pixels, how many are around a thing, and how far it is from the middle."""
FIRST_LOG_VARIANCE, CONTRAST = -6.0, 0.5
SCENES = 200_000
"""How many different scenes are drawn, at most; each when it is its turn."""


def options(steps: int, seed: int = 0) -> TrainingOptions:
    """The options of the training."""
    return TrainingOptions(
        steps=steps,
        batch=BATCH,
        optimiser="muon",
        learning_rate=LEARNING_RATE,
        warm_up=min(400, steps // 10),
        weight_decay=0.01,
        average=0.998,
        seed=seed,
        save_every=100,
        log_every=50,
        samples_every=500,
    )


class Crops:
    """Crops of the pictures of training scenes, CROPS of each, most of them around a thing, and all of them `augmented`.

    A step on crops takes a fraction of the time of one on whole pictures, and networks of convolutions can do with them.
    """

    def __len__(self) -> int:
        return SCENES

    def batch(self, indices: list[int], generator: torch.Generator, /) -> Tensor:
        """Crops of the pictures of these scenes, (CROPS * B, 3, CROP, CROP) in [-1, 1]."""
        crops = []
        for each in map(training_scene, indices):
            picture = to_tensor(pictures([each]))[0]
            for _ in range(CROPS):
                top, left = _corner(each, generator)
                crops.append(augmented(picture[:, top : top + CROP, left : left + CROP], generator))
        return torch.stack(crops)


class WholePictures:
    """Whole pictures of training scenes, `augmented`."""

    def __len__(self) -> int:
        return SCENES

    def batch(self, indices: list[int], generator: torch.Generator, /) -> Tensor:
        """The pictures of these scenes, (B, 3, SIDE, SIDE) in [-1, 1]."""
        batch = to_tensor(pictures([training_scene(index) for index in indices]))
        return torch.stack([augmented(picture, generator) for picture in batch])


def augmented(picture: Tensor, generator: torch.Generator) -> Tensor:
    """A picture (3, H, W), in half of all cases mirrored, and in half of all with its colour channels in another order.

    Without the other orders, an autoencoder learns which things have which colours, and makes a thing grey that it has not seen in
    that colour.
    """
    mirrored, exchanged = (torch.rand(2, generator=generator) < 0.5).tolist()
    order = torch.randperm(3, generator=generator) if exchanged else torch.arange(3)
    return picture[order].flip(-1) if mirrored else picture[order]


def _corner(scene: Scene, generator: torch.Generator) -> tuple[int, int]:
    """The top left corner of a crop, in pixels."""
    if not scene.things or float(torch.rand((), generator=generator)) >= CROPS_OF_THINGS:
        top, left = torch.randint(SIDE - CROP + 1, (2,), generator=generator).tolist()
        return top, left
    x, y = scene.things[int(torch.randint(len(scene.things), (), generator=generator))].box.doubled_centre
    shifts = torch.randint(-SHIFT, SHIFT + 1, (2,), generator=generator).tolist()
    top, left = (
        min(max(middle * SIDE // (2 * UNIT) - CROP // 2 + shift, 0), SIDE - CROP)
        for middle, shift in zip((y, x), shifts, strict=True)
    )
    return top, left


@torch.no_grad()
def new_autoencoder(seed: int = 0) -> AutoencoderKL:
    """A narrow network to begin with: it reduces pictures to the means of their blocks and enlarges these again, with little noise.

    The first channels carry red, green and blue, and their negatives, since silu(x) - silu(-x) = x; all others are random. Without
    this, a network learns shapes first, and colours only after a long time.
    """
    torch.manual_seed(seed)
    model = AutoencoderKL(NARROW)
    for block in model.modules():
        if isinstance(block, ResnetBlock):
            block.conv2.weight.zero_()
            if hasattr(block, "nin_shortcut"):
                _pass_on(block.nin_shortcut, {channel: {channel: 1.0} for channel in range(6)})
        elif isinstance(block, Downsample):
            _pass_on(block.conv, {channel: {channel: 0.25} for channel in range(6)}, taps=(slice(2), slice(2)))
        elif isinstance(block, Upsample):
            _pass_on(block.conv, {channel: {channel: 1.0} for channel in range(6)})
    split = {channel: {channel % 3: 1.0 if channel < 3 else -1.0} for channel in range(6)}
    for layer in (model.encoder.conv_in, model.decoder.conv_in):
        _pass_on(layer, split)
    for layer, scale in ((model.encoder.conv_out, 1.0), (model.decoder.conv_out, CONTRAST)):
        _pass_on(layer, {channel: {channel: scale, channel + 3: -scale} for channel in range(3)})
    for layer in (model.quant_conv, model.post_quant_conv):
        _pass_on(layer, {channel: {channel: 1.0} for channel in range(3)})
    log_variances = slice(CONFIG.latent_channels, None)
    assert model.quant_conv.bias is not None
    model.quant_conv.weight[log_variances].zero_()
    model.quant_conv.bias[log_variances] = FIRST_LOG_VARIANCE
    return model


def _pass_on(layer: nn.Conv2d, weights: Mapping[int, Mapping[int, float]], taps: tuple[slice, slice] | None = None) -> None:
    """Make some output channels of a convolution sums of input channels, at the middle tap of its kernel or at all of `taps`."""
    middle = layer.kernel_size[0] // 2
    rows, columns = taps or (slice(middle, middle + 1), slice(middle, middle + 1))
    assert layer.bias is not None
    for out, sources in weights.items():
        layer.weight[out].zero_()
        layer.bias[out] = 0
        for source, weight in sources.items():
            layer.weight[out, source, rows, columns] = weight


def autoencoder_task(model: AutoencoderKL) -> AutoencoderTask:
    """The task of encoder and decoder together."""
    return AutoencoderTask(model, weights=WEIGHTS, sampled=to_tensor(pictures(held_out_scenes(8))))


@torch.no_grad()
def psnr(model: AutoencoderKL, pixels: NDArray[np.uint8]) -> float:
    """Peak signal-to-noise ratio in dB of 8-bit pictures (B, H, W, 3), from the squared error of all of them together."""
    total = 0.0
    for original in np.array_split(pixels, max(1, len(pixels) // 50)):
        decoded = to_pixels(model.decode(model.encode(to_tensor(original))[0]))
        total += float(np.square(decoded.astype(np.float64) - original).sum())
    return 10 * math.log10(255**2 * pixels.size / total)
