"""Classes that the importer refuses, and that a person can write as nodes here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """A class, the node types to use, and the same explanations as in `NodeClass`."""

    name: str
    here: tuple[str, ...]
    renamed: str = ""
    differs: str = ""


BY_HAND: Final = (
    ByHand(
        name="InstructPixToPixConditioning",
        here=("ApplyPix2Pix",),
        renamed="pixels: `latent` of `VAEEncode`",
        differs="changes the UNet; start from `EmptyLatent`",
    ),
    ByHand(
        name="LoadLatent",
        here=("LoadLatent",),
        renamed="latent: `path`",
        differs="reads `.safetensors` files that outputs of workflows are written to, not ComfyUI's `.latent`",
    ),
    ByHand(name="RebatchLatents", here=("Rebatch",), renamed="batch_size: `count`", differs="masks are not part of a latent"),
    ByHand(
        name="GrowMask",
        here=("Mask",),
        renamed="`mask`; expand: `grow`",
        differs="`grow` is round; ComfyUI's steps are squares or, with tapered_corners, diamonds",
    ),
    ByHand(
        name="ImageCompositeMasked",
        here=("Composite",),
        renamed="destination: `original`; source: `image`; `mask`",
        differs="both pictures have the same size; no x and y",
    ),
    ByHand(name="PerpNeg", here=("PerpNeg",), renamed="empty_conditioning: `empty`; `cfg`, `neg_scale`"),
    ByHand(name="AlignYourStepsScheduler", here=("Schedule",), renamed="`schedule: align_your_steps`"),
    ByHand(name="LaplaceScheduler", here=("Schedule",), renamed="`schedule: laplace`"),
    ByHand(name="VPScheduler", here=("Schedule",), renamed="`schedule: vp`"),
    ByHand(name="SplitSigmasDenoise", here=("SplitSigmas",), renamed="denoise: `step`, counted from the start"),
)
