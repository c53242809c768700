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
    ByHand(name="GLIGENLoader", here=("LoadGligen",), renamed="gligen_name: `file`"),
    ByHand(
        name="GLIGENTextBoxApply",
        here=("ApplyGligen",),
        renamed="clip: `text_encoder`; gligen_textbox_model: `gligen`; `text`, `width`, `height`, `x`, `y`",
        differs="changes the UNet and applies to both sides, as in ComfyUI; `unit: fraction` counts in sides of the picture",
    ),
    ByHand(
        name="CLIPVisionLoader",
        here=("LoadImageEncoder",),
        renamed="clip_name: `file`",
        differs="CLIP's; SigLIP and others are not read",
    ),
    ByHand(
        name="CLIPVisionEncode",
        here=("ImageEncode",),
        renamed="clip_vision: `image_encoder`; crop center, none: `fit: crop`, `fit: stretch`",
    ),
    ByHand(
        name="unCLIPConditioning",
        here=("ImageCondition",),
        renamed="clip_vision_output: `embedding`; `strength`; noise_augmentation: `noise`",
        differs='for SDXL ("revision"); give the seed of the sampling as `seed`. Models of the unCLIP family are not read',
    ),
    ByHand(
        name="UpscaleModelLoader",
        here=("LoadUpscaler",),
        renamed="model_name: `file`",
        differs="ESRGAN, BSRGAN and Real-ESRGAN; a `.pth` needs `--allow-pickles`",
    ),
    ByHand(
        name="ImageUpscaleWithModel",
        here=("Upscale",),
        renamed="upscale_model: `upscaler`; `image`",
        differs="tiles of 512 pixels that overlap by 32, as in ComfyUI: `tile`, `overlap`",
    ),
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
