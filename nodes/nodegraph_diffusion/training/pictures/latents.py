"""Pictures as latents with conditions: the examples of a denoiser, encoded once and kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from nodegraph_diffusion.conditioning.prompt import Prompt, SizeConditioning
from nodegraph_diffusion.conditioning.sdxl_sizes import AESTHETIC, vector_conditioning
from nodegraph_diffusion.networks.vae import AutoencoderKL
from nodegraph_diffusion.training.losses.gaussian import DiagonalGaussian
from nodegraph_diffusion.training.pictures.buckets import BucketOrder, Buckets, Fit, fit
from nodegraph_diffusion.training.pictures.captions import EncodedCaptions
from nodegraph_diffusion.training.pictures.source import CaptionedPicture, fitted
from nodegraph_diffusion.training.pictures.store import Encoding, EncodingStore, network_digest
from nodegraph_diffusion.training.tasks.denoiser import ConditionedLatents


@dataclass(frozen=True, kw_only=True)
class EncodedPictures:
    """Pictures as Gaussians of latents, of several sizes; `fits` say how each was resized and cut.

    `plain` and `mirrored` have `mean` and `log_variance` (c, h, w) of each; `mirrored` is empty if pictures are not mirrored.
    """

    plain: Sequence[Encoding]
    mirrored: Sequence[Encoding]
    fits: Sequence[Fit]
    scaling_factor: float


@torch.no_grad()
def encode_pictures(
    pictures: Sequence[CaptionedPicture],
    buckets: Buckets,
    vae: AutoencoderKL,
    *,
    store: EncodingStore,
    mirror: bool = False,
    on_progress: Callable[[int, int], None] | None = None,
) -> EncodedPictures:
    """The latents of pictures, each at the size of its bucket. `mirror`: those of mirrored pictures, too.

    Raises ValueError if a bucket's sides are not multiples of the pixels of a latent cell.
    """
    factor = vae.config.factor
    if buckets.step % factor or buckets.least % factor:
        raise ValueError(
            f"buckets: expected step and least to be multiples of {factor}, the autoencoder's pixels of a cell, found {buckets}"
        )
    encoder, device = network_digest(vae), next(vae.parameters()).device
    fits = [fit(*picture.size, buckets.of(*picture.size)) for picture in pictures]
    cases = [(index, mirrored) for mirrored in ((False, True) if mirror else (False,)) for index in range(len(pictures))]

    def compute(case: int) -> Encoding:
        index, mirrored = cases[case]
        pixels = fitted(pictures[index].pixels(), fits[index], mirrored)
        mean, log_variance = vae.encode(pixels[None].to(device, next(vae.parameters()).dtype))
        return {"mean": mean[0].float().cpu(), "log_variance": log_variance[0].float().cpu()}

    items = [
        {
            "kind": "latent",
            "picture": pictures[index].digest,
            "transform": {**asdict(fits[index]), "mirrored": mirrored, "filter": "bicubic"},
            "encoder": encoder,
        }
        for index, mirrored in cases
    ]
    found = store.encode(items, compute, on_progress=on_progress)
    count = len(pictures)
    return EncodedPictures(plain=found[:count], mirrored=found[count:], fits=fits, scaling_factor=vae.config.scaling_factor)


class LatentExamples:
    """Latents of pictures with the context of their captions, for a `DenoiserTask` with an `EncodedCondition`.

    A latent is drawn from its Gaussian each time, and half of the times from that of the mirrored picture if there is one. A batch
    has pictures of one bucket. `added_dim` is the width of the vector conditioning of a UNet that has one: it gets the pooled
    caption, and the sizes of each picture before and after cutting (Podell et al. 2023, sec. 2.2). `empty` is the encoding of the
    empty caption, one. `conditions` may replace the contexts, such as by tokens for an `InversionCondition`.
    """

    def __init__(
        self,
        pictures: EncodedPictures,
        captions: EncodedCaptions | None,
        *,
        conditions: Tensor | None = None,
        added_dim: int | None = None,
        empty: EncodedCaptions | None = None,
    ) -> None:
        if (captions is None) == (conditions is None):
            raise ValueError("examples: expected encoded captions or conditions, found both or neither; give one of them")
        self._pictures = pictures
        self._conditions = conditions if captions is None else captions.contexts
        assert self._conditions is not None
        if len(self._conditions) != len(pictures.fits):
            raise ValueError(f"examples: expected {len(pictures.fits)} captions, one a picture, found {len(self._conditions)}")
        pooled = None if captions is None else captions.pooled
        unconditional = None if empty is None or empty.pooled is None else empty.pooled.expand(len(self), -1)
        self._added = self._vectors(pooled, added_dim)
        self._added_dropped = self._vectors(unconditional, added_dim)

    def __len__(self) -> int:
        return len(self._pictures.fits)

    def order(self, batch: int, seed: int) -> BucketOrder:
        """Batches of one size each."""
        return BucketOrder([fit.size for fit in self._pictures.fits], batch, seed)

    def batch(self, indices: list[int], generator: torch.Generator) -> ConditionedLatents:
        """The examples with these indices, which have one size."""
        encoded = self._pictures
        flips = torch.rand(len(indices), generator=generator).lt(0.5).tolist() if encoded.mirrored else [False] * len(indices)
        chosen = [(encoded.mirrored if flip else encoded.plain)[index] for index, flip in zip(indices, flips, strict=True)]
        mean, log_variance = (torch.stack([each[name] for each in chosen]) for name in ("mean", "log_variance"))
        noise = torch.randn(mean.shape, generator=generator)
        latent = DiagonalGaussian(mean=mean, log_variance=log_variance).sample(noise) * encoded.scaling_factor
        assert self._conditions is not None
        return ConditionedLatents(
            latent=latent,
            condition=self._conditions[indices],
            added=None if self._added is None else self._added[indices],
            added_dropped=None if self._added_dropped is None else self._added_dropped[indices],
        )

    def _vectors(self, pooled: Tensor | None, width: int | None) -> Tensor | None:
        if width is None or pooled is None:
            return None
        rows = []
        for each, how in zip(pooled, self._pictures.fits, strict=True):
            sizes = SizeConditioning(
                height=how.original[0],
                width=how.original[1],
                crop_y=how.top,
                crop_x=how.left,
                target_height=how.size[0],
                target_width=how.size[1],
            )
            prompt = Prompt(each[None, None], pooled=each[None], size=sizes)
            rows.append(vector_conditioning(prompt, how.size, AESTHETIC, width)[0])
        return torch.stack(rows)
