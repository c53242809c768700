"""UNets that are not in a whole model: their family, and what they were trained to predict."""

from __future__ import annotations

from pathlib import Path

from nodegraph_diffusion.checkpoint.detect.model import UNetPart, Weights
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.families import Kind, scaling_factor
from nodegraph_diffusion.checkpoint.files.header import HeaderCache
from nodegraph_diffusion.checkpoint.layouts.ldm import EDM_MARKS, VELOCITY_BIAS, VELOCITY_MARK, ZERO_SNR_MARK
from nodegraph_diffusion.networks.config import LatentSpace, UNetConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule

_VELOCITY_SPREAD = 0.09  # of the bias: larger ones are of networks that predict velocity
_REFINER_SIZES = 5 * 256  # the refiner's UNet receives five sizes, 256 numbers each, besides the pooled text


def unet_kind(config: UNetConfig) -> Kind:
    """The family of a UNet of these sizes."""
    if config.added_dim is None:
        return "sd2" if config.linear_projection else "sd1"
    return "sdxl-refiner" if config.added_dim == config.context_dim + _REFINER_SIZES else "sdxl"


def unet_without_model(
    path: Path, *, config: UNetConfig, weights: Weights, files: tuple[Path, ...], headers: HeaderCache
) -> UNetPart:
    """The description of a UNet of which only sizes are known: it denoises in the latents of its family. Raises CheckpointError."""
    kind = unet_kind(config)
    schedule, reason = noise_schedule(weights, headers, kind, config)
    latent = LatentSpace(config.out_channels, scaling_factor=scaling_factor(kind))
    return UNetPart(
        path=path,
        kind=kind,
        config=config,
        weights=weights,
        noise_schedule=schedule,
        latent=latent,
        files=files,
        reason=reason,
    )


def noise_schedule(weights: Weights, headers: HeaderCache, kind: Kind, config: UNetConfig) -> tuple[NoiseSchedule, str]:
    """The noise schedule that a UNet was trained with, and how that is known. Raises CheckpointError if it is not supported."""
    files = [headers.read(path) for path in weights.paths]
    names = {name: file for file in files for name in file.tensors}
    if marks := [mark for mark in EDM_MARKS if mark in names]:
        raise CheckpointError(
            weights.paths[0],
            expected="a model that was trained on the noise levels of Stable Diffusion",
            found=f"the mark {marks[0]!r} of one trained on those of Karras et al. 2022 (Playground 2.5, CosXL)",
            hint="Such models are not supported; give one that predicts noise or velocity.",
        )
    if VELOCITY_MARK in names:
        zero_snr = ZERO_SNR_MARK in names
        return NoiseSchedule(prediction="v", zero_snr=zero_snr), f"the mark {VELOCITY_MARK!r} says that it predicts velocity"
    bias = weights.prefix + VELOCITY_BIAS[weights.naming]
    if kind != "sd2" or config.in_channels != config.out_channels or bias not in names:
        return NoiseSchedule(), "it predicts noise"
    from statistics import pstdev  # slow to import, and rarely needed

    spread = pstdev(names[bias].read_floats(bias))
    velocity = spread > _VELOCITY_SPREAD
    reason = f"it predicts {'velocity' if velocity else 'noise'}, judging by the spread of one of its biases ({spread:.2f})"
    return NoiseSchedule(prediction="v" if velocity else "eps"), reason
