"""What all training of a denoiser on captioned pictures shares: latents, encoded captions, the objective, previews."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from torch import Tensor

from nodegraph.plugin_api import dataclass
from nodegraph_diffusion.training.noising.objective import Objective
from nodegraph_diffusion.training.tasks.conditions import Condition, EncodedCondition, TextCondition
from nodegraph_diffusion.training.tasks.denoiser import DenoiserSamples
from nodegraph_training.training.conditions import ConditionedPictures, beside_of, condition_of, label_rows
from nodegraph_training.training.examples import captions_of, number_of_captions, require_side, tokens_of
from nodegraph_training.training.latents import CaptionedLatents, Encoded, PixelLatents, encode_texts, latents_of
from nodegraph_training.training.networks import own_readers, own_vae
from nodegraph_training.training.sizes import PIXELS, sizes_of

if TYPE_CHECKING:
    from nodegraph import Run
    from nodegraph_diffusion.networks.config import LatentSpace, UNetConfig
    from nodegraph_diffusion.networks.unet import UNet
    from nodegraph_diffusion.networks.vae import AutoencoderKL
    from nodegraph_diffusion.noise_schedule import NoiseSchedule
    from nodegraph_diffusion.text.encode import Reader
    from nodegraph_nodes.types import VAE, TextEncoder
    from nodegraph_training.types import ConditionKind, Pictures

E = TypeVar("E", CaptionedLatents, ConditionedPictures)

Weighting = Literal["simple", "min_snr"]

SHOWN = 4  # pictures in a preview
PREVIEW_STEPS = 15


@dataclass(frozen=True, kw_only=True)
class Prepared(Generic[E]):
    """Examples of conditioned latents and what a denoiser's task needs besides.

    `sampled` describes the previews: pictures of the first captions; None for a UNet that receives more than a prompt.
    """

    examples: E
    condition: Condition
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


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a denoiser is trained with: its autoencoder (None: it denoises pixels), its text encoder, and the kind of condition.

    Raises ValueError if a part is missing that captions need.
    """

    vae: VAE | None
    text_encoder: TextEncoder | None
    kind: ConditionKind

    def __post_init__(self) -> None:
        if self.kind == "text" and (self.text_encoder is None or self.vae is None):
            raise ValueError("condition: expected a text_encoder and a vae for captions, found one of them missing; give both")

    @property
    def latent(self) -> LatentSpace:
        """What is denoised."""
        return PIXELS if self.vae is None else self.vae.part.config.latent


def prepare(pictures: Pictures, parts: Parts, unet: UNet, *, run: Run, folder: Path) -> Prepared[Any]:
    """Encode pictures, and captions or other conditions, as this UNet receives them."""
    if parts.kind == "text" and parts.vae is not None and parts.text_encoder is not None:
        return prepare_captions(pictures, parts.vae, parts.text_encoder, unet, run=run, folder=folder)
    return prepare_without_text(pictures, parts.vae, unet, parts.kind, run=run, folder=folder)


def prepare_captions(
    pictures: Pictures, vae: VAE, text_encoder: TextEncoder, unet: UNet, *, run: Run, folder: Path
) -> Prepared[CaptionedLatents]:
    """Encode pictures and captions as this UNet receives them."""
    network, readers = own_vae(vae, run), own_readers(text_encoder, run)
    added_dim = unet.config.added_dim
    require_side(pictures, network.config.factor)
    latents = latents_of(pictures, network, folder)
    count = number_of_captions(pictures)
    sizes = [pictures.size(index) for index in range(len(pictures)) for _ in range(count)]
    encoded = encode_texts(readers, captions_of(pictures, count), sizes, added_dim=added_dim)
    empty = encode_texts(readers, [""], [], added_dim=None).contexts[0]
    shown = None
    if added_dim is None:
        first = encoded.contexts[: SHOWN * count : count]
        shown = samples(network, first, latents[0])
    return Prepared(
        examples=CaptionedLatents(latents, encoded, count),
        condition=EncodedCondition(empty).to(run.device),
        sampled=shown,
    )


def prepare_with_tokens(pictures: Pictures, vae: VAE, reader: Reader, *, run: Run, folder: Path) -> Prepared[CaptionedLatents]:
    """Encode pictures, and split captions into tokens, for a text encoder that is trained with the UNet."""
    network, count = own_vae(vae, run), number_of_captions(pictures)
    require_side(pictures, network.config.factor)
    latents = latents_of(pictures, network, folder)
    tokens = tokens_of(reader.tokenizer, captions_of(pictures, count))
    empty = tokens_of(reader.tokenizer, [""])[0]
    return Prepared(
        examples=CaptionedLatents(latents, Encoded(tokens, None), count),
        condition=TextCondition(reader.model, empty).to(run.device),
        sampled=samples(network, tokens[: SHOWN * count : count], latents[0]),
    )


def prepare_without_text(
    pictures: Pictures, vae: VAE | None, unet: UNet, kind: ConditionKind, *, run: Run, folder: Path
) -> Prepared[ConditionedPictures]:
    """Encode pictures, if there is an autoencoder, and make the condition of each as this UNet receives it."""
    coder = None if vae is None else own_vae(vae, run)
    if coder is not None:
        require_side(pictures, coder.config.factor)
    latents = PixelLatents(pictures) if coder is None else latents_of(pictures, coder, folder)
    names = unet.config.labels
    labels = None if names is None else label_rows(kind, pictures, names)
    examples = ConditionedPictures(latents, labels, beside_of(kind, pictures))
    first = examples.of([*range(min(SHOWN, len(pictures)))])
    return Prepared(
        examples=examples,
        condition=condition_of(unet.config).to(run.device),
        sampled=samples(coder, first.condition, latents[0], first.beside),
    )


def samples(vae: AutoencoderKL | None, conditions: Tensor, like: Tensor, beside: Tensor | None = None) -> DenoiserSamples:
    """Previews of these conditions, as pictures. Their latents have the shape of `like`, (c, h, w)."""
    channels, height, width = like.shape

    def decode(latent: Tensor) -> Tensor:
        decoded: Tensor = latent if vae is None else vae.decode(latent / vae.config.scaling_factor)
        return decoded

    shape = (channels, height, width)
    return DenoiserSamples(conditions=conditions, shape=shape, decode=decode, beside=beside, steps=PREVIEW_STEPS)


def network_settings(config: UNetConfig, schedule: NoiseSchedule, latent: LatentSpace) -> dict[str, Any]:
    """The settings of a trained network of noisy latents: its sizes, its noise levels, and the latents that it knows."""
    return {
        "config": sizes_of(config),
        "noise_schedule": asdict(schedule),
        "latent": [latent.channels, latent.factor, latent.scaling_factor],
    }
