"""What all training of a denoiser on captioned pictures shares: latents, encoded captions, the objective, previews."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from nodegraph_diffusion.training.noising.objective import Objective
from nodegraph_diffusion.training.tasks.conditions import EncodedCondition
from nodegraph_diffusion.training.tasks.denoiser import DenoiserSamples
from nodegraph_training.training.examples import (
    CaptionedLatents,
    captions_of,
    encode_texts,
    latents_of,
    number_of_captions,
    require_side,
)
from nodegraph_training.training.networks import own_readers, own_vae
from nodegraph_training.training.sizes import sizes_of

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_diffusion.networks.config import LatentSpace, UNetConfig
    from nodegraph_diffusion.networks.vae import AutoencoderKL
    from nodegraph_diffusion.noise_schedule import NoiseSchedule
    from nodegraph_nodes.types import VAE, TextEncoder
    from nodegraph_training.types import Pictures

Weighting = Literal["simple", "min_snr"]

_SHOWN = 4  # pictures in a preview
PREVIEW_STEPS = 15


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Examples of captioned latents and what a denoiser's task needs besides.

    `sampled` describes the previews: pictures of the first captions; None for a UNet that receives more than a prompt.
    """

    vae: AutoencoderKL
    latents: Tensor
    examples: CaptionedLatents
    condition: EncodedCondition
    sampled: DenoiserSamples | None


def objective_of(schedule: NoiseSchedule, weighting: Weighting) -> Objective:
    """The objective for a denoiser with this noise schedule."""
    return Objective(
        target=schedule.prediction,
        weighting=weighting,
        steps=schedule.steps,
        beta_start=schedule.beta_start,
        beta_end=schedule.beta_end,
        zero_snr=schedule.zero_snr,
    )


def prepare(pictures: Pictures, vae: VAE, text_encoder: TextEncoder, *, added_dim: int | None, run: Run, folder: Path) -> Prepared:
    """Encode pictures and captions."""
    network, readers = own_vae(vae, run), own_readers(text_encoder, run)
    require_side(pictures, network.config.factor)
    latents = latents_of(pictures, network, folder)
    count = number_of_captions(pictures)
    encoded = encode_texts(readers, captions_of(pictures, count), size=pictures.side, added_dim=added_dim)
    empty = encode_texts(readers, [""], size=pictures.side, added_dim=None).contexts[0]
    shown = None
    if added_dim is None:
        first = encoded.contexts[: _SHOWN * count : count]
        shown = samples(network, first, (latents.shape[1], latents.shape[2], latents.shape[3]))
    return Prepared(
        vae=network,
        latents=latents,
        examples=CaptionedLatents(latents, encoded, count),
        condition=EncodedCondition(empty).to(run.device),
        sampled=shown,
    )


def samples(vae: AutoencoderKL, conditions: Tensor, shape: tuple[int, int, int]) -> DenoiserSamples:
    """Previews of these conditions, as pictures."""

    def decode(latent: Tensor) -> Tensor:
        decoded: Tensor = vae.decode(latent / vae.config.scaling_factor)
        return decoded

    return DenoiserSamples(conditions=conditions, shape=shape, decode=decode, steps=PREVIEW_STEPS)


def unet_settings(config: UNetConfig, schedule: NoiseSchedule, latent: LatentSpace, kind: str) -> dict[str, Any]:
    """The settings of a `TrainedUNet`."""
    return {
        "kind": kind,
        "config": sizes_of(config),
        "noise_schedule": asdict(schedule),
        "latent": [latent.channels, latent.factor, latent.scaling_factor],
    }
