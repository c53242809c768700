"""Single files in the layout of the published latent diffusion models: which model, and of which sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from statistics import pstdev

from nodegraph_diffusion.checkpoint.detect.contents import UNET_PREFIX, VAE_PREFIX, known, not_a
from nodegraph_diffusion.checkpoint.detect.model import (
    NAMES,
    TEXT_PARTS,
    Checkpoint,
    Kind,
    Naming,
    Part,
    TextEncoders,
    TextPart,
    UNetPart,
    VAEPart,
    Weights,
    scaling_factor,
)
from nodegraph_diffusion.checkpoint.detect.shapes import Shapes, multiple
from nodegraph_diffusion.checkpoint.detect.sizes import vae_config
from nodegraph_diffusion.checkpoint.detect.text_encoders import WIDTH_2, text_config, text_kind, text_naming
from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.files.header import TensorInfo, read_floats, read_header
from nodegraph_diffusion.networks.config import UNetConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule

_IN_ALL: dict[Part, str] = {"unet": UNET_PREFIX, "vae": VAE_PREFIX}
PREFIXES: dict[Kind, dict[Part, str]] = {
    "sd1": {**_IN_ALL, "text_encoder": "cond_stage_model.transformer."},
    "sd2": {**_IN_ALL, "text_encoder": "cond_stage_model.model."},
    "sdxl": {**_IN_ALL, "text_encoder": "conditioner.embedders.0.transformer.", "text_encoder_2": "conditioner.embedders.1.model."},
    "sdxl-refiner": {**_IN_ALL, "text_encoder_2": "conditioner.embedders.0.model."},
}

KNOWN_UNUSED = re.compile(
    r"model_ema\..*"  # the training's moving average; the plain weights are the published model
    r"|(alphas_cumprod|alphas_cumprod_prev|betas|sqrt_.*|log_one_minus_.*|posterior_.*|lvlb_weights|logvar)"  # schedule
    r"|(first_stage_model\.)?loss\..*"  # the autoencoder's discriminator
    r"|(vision_model|visual)\..*|visual_projection\.weight"  # CLIP's other half, which sees pictures
    r"|.*\.position_ids"  # 0 to 76
    r"|(.*\.)?(logit_scale|text_projection(\.weight)?)"  # CLIP's comparison with pictures, but for SDXL's second encoder
    r"|v_pred|ztsnr|difference"  # marks: what the model predicts, what a ControlNet's file holds
)

_EDM = ("edm_mean", "edm_std", "edm_vpred.sigma_min", "edm_vpred.sigma_max")  # marks of Playground 2.5 and CosXL
# The 768 model of Stable Diffusion 2 says nowhere that it predicts velocity; training it so has spread this bias.
_SPREAD_BY_V: dict[Naming, str] = {
    "ldm": "output_blocks.11.1.transformer_blocks.0.norm1.bias",
    "diffusers": "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias",
}
_SPREAD = 0.09


def detect_ldm(path: Path, tensors: Mapping[str, TensorInfo], kind: Kind | None = None) -> Checkpoint:
    """The checkpoint in the file at `path` with these tensors, read as a model of `kind` where that is given.

    Raises CheckpointError unless it is of a known kind, and of one that can be read so.
    """
    layout, because = _layout(path, tensors)
    kind, because = _read_as(path, tensors, layout, because, kind)
    shapes = Shapes(path, tensors)
    prefixes = PREFIXES[layout]
    scaling = scaling_factor(kind)
    try:
        unet, vae = unet_config(shapes), vae_config(shapes, "ldm", VAE_PREFIX, scaling)
        texts = [
            TextPart(path, text_config(shapes, weights, kind), weights, (path,))
            for part in TEXT_PARTS
            if part in prefixes
            for weights in [Weights(part, text_naming(prefixes[part]), (path,), prefixes[part])]
        ]
    except ValueError as error:
        expected, hint = f"sizes of a {NAMES[kind]} model", "The file is damaged or of another layout."
        raise CheckpointError(path, expected=expected, found=str(error), hint=hint) from error
    weights = Weights("unet", "ldm", (path,), UNET_PREFIX)
    schedule, trained = trained_for(weights, tensors, kind, unet)
    size = 1024 if kind.startswith("sdxl") else 768 if kind == "sd2" and schedule.prediction == "v" else 512
    scaled = f"its latents are multiplied by {scaling}, as those of {NAMES[kind]}"
    return Checkpoint(
        path=path,
        layout="ldm",
        kind=kind,
        unet=UNetPart(path, kind, unet, weights, schedule, vae.latent, (path,), trained),
        vae=VAEPart(path, vae, Weights("vae", "ldm", (path,), VAE_PREFIX), (path,), scaled, size),
        text=TextEncoders(path, kind, tuple(texts), because),
        files=(path,),
        reason=f"{NAMES[kind]}, {because}; {trained}",
    )


def _layout(path: Path, tensors: Mapping[str, TensorInfo]) -> tuple[Kind, str]:
    """The kind of model whose names the file has, and which these are. Raises CheckpointError for others and for parts."""
    found = known(tensors)
    if found is not None and found.holds != "model":
        raise not_a("model", path, tensors, "Give the file of a whole Stable Diffusion 1, 2 or XL model.")
    begins = {prefix for kind in PREFIXES.values() for prefix in kind.values() if any(key.startswith(prefix) for key in tensors)}
    candidates = {kind: set(prefixes.values()) - begins for kind, prefixes in PREFIXES.items()}
    kind = min(candidates, key=lambda kind: (len(candidates[kind]), -len(PREFIXES[kind])))
    if candidates[kind]:
        some = ", ".join(repr(key) for key in sorted(tensors)[:3]) or "no tensor"
        raise CheckpointError(
            path,
            expected=f"tensors whose names begin with {' and '.join(sorted(candidates[kind]))}",
            found=f"none ({some}, ...)",
            hint="Give the file of a whole Stable Diffusion model: UNet, autoencoder and text encoder.",
        )
    prefixes = tuple(PREFIXES[kind].values())
    unknown = [key for key in tensors if not key.startswith(prefixes) and key not in _EDM and not KNOWN_UNUSED.fullmatch(key)]
    if unknown:
        raise CheckpointError(
            path,
            expected=f"only tensors of a {NAMES[kind]} model",
            found=f"{len(unknown)} unknown, such as {unknown[0]!r}",
            hint="Remove them or give another file.",
        )
    below = " and ".join(repr(prefix) for prefix in prefixes[2:])
    return kind, f"since its text encoder{'s lie' if len(prefixes) > 3 else ' lies'} below {below}"


def _read_as(path: Path, tensors: Mapping[str, TensorInfo], layout: Kind, because: str, wanted: Kind | None) -> tuple[Kind, str]:
    """The kind that a file with the names of `layout` is read as, and why. Raises CheckpointError where it cannot be `wanted`."""
    if wanted is None:
        if layout == "sd1" and text_kind(tensors, PREFIXES[layout]["text_encoder"]) == "sd2":
            return "sd2", f"{because} and is {WIDTH_2} wide"
        return layout, because
    if not readable_as(layout, wanted):
        raise impossible(path, wanted, f"{NAMES[layout]}, {because}")
    return wanted, because if wanted == layout else "as it was told to be"


def readable_as(kind: Kind, wanted: Kind) -> bool:
    """Whether a model of a kind has the parts of one of the kind that is wanted: Stable Diffusion 1's are those of 2."""
    return wanted == kind or {wanted, kind} == {"sd1", "sd2"}


def impossible(path: Path, wanted: Kind, found: str) -> CheckpointError:
    """The error for a model that cannot be read as one of the kind that is wanted."""
    needed = {
        "sdxl": "two text encoders, and a UNet that is told sizes",
        "sdxl-refiner": "one text encoder with a projection, and a UNet that is told sizes",
    }
    expected = f"a {NAMES[wanted]} model ({needed.get(wanted, 'one text encoder, and a UNet that is told no sizes')})"
    return CheckpointError(path, expected=expected, found=found, hint=f"Leave out 'kind: {wanted}', or give another model.")


def trained_for(weights: Weights, tensors: Mapping[str, TensorInfo], kind: Kind, unet: UNetConfig) -> tuple[NoiseSchedule, str]:
    """What the network was trained to predict, and how that is known. Raises CheckpointError where it is on other noise levels."""
    if edm := [key for key in _EDM if key in tensors]:
        raise CheckpointError(
            weights.paths[0],
            expected="a model that was trained on the noise levels of Stable Diffusion",
            found=f"the mark {edm[0]!r}, which one has that was trained on those of Karras et al. 2022 (Playground 2.5, CosXL)",
            hint="Such models are not supported; give one that predicts noise or velocity.",
        )
    if "v_pred" in tensors:
        return NoiseSchedule(prediction="v", zero_snr="ztsnr" in tensors), "the mark 'v_pred' says that it predicts velocity"
    key = weights.prefix + _SPREAD_BY_V[weights.naming]
    if kind == "sd2" and unet.in_channels == unet.out_channels and key in tensors:
        file = next(file for file in weights.paths if len(weights.paths) == 1 or key in read_header(file))
        spread = pstdev(read_floats(file, key))
        velocity = spread > _SPREAD
        told = f"as far as the spread of one of its biases ({spread:.2f}) tells"
        return NoiseSchedule(prediction="v" if velocity else "eps"), f"it predicts {'velocity' if velocity else 'noise'}, {told}"
    return NoiseSchedule(), "it predicts noise"


def encoder_config(path: Path, tensors: Mapping[str, TensorInfo], prefix: str) -> UNetConfig:
    """The sizes of a UNet of which only the half that goes down is there, below `prefix`. Raises CheckpointError, ValueError."""
    return unet_config(Shapes(path, tensors), prefix, whole=False)


def unet_config(shapes: Shapes, prefix: str = UNET_PREFIX, whole: bool = True) -> UNetConfig:
    """The sizes of a UNet (or of its half that goes down, where it is not `whole`) below `prefix`. Raises as `encoder_config`."""
    model_channels, in_channels, _, _ = shapes.get(f"{prefix}input_blocks.0.0.weight", 4)
    levels: list[list[int]] = [[]]
    depths: list[int] = [0]
    block = 1
    transformer = ""
    while True:
        name = f"{prefix}input_blocks.{block}."
        if f"{name}0.op.weight" in shapes:
            levels.append([])
            depths.append(0)
        elif f"{name}0.in_layers.2.weight" in shapes:
            levels[-1].append(shapes.get(f"{name}0.in_layers.2.weight", 4)[0])
            depths[-1] = _depth(shapes, f"{name}1.")
            transformer = f"{name}1." if depths[-1] else transformer
        else:
            break
        block += 1
    middle = f"{prefix}middle_block.1."
    middle_depth = _depth(shapes, middle)
    transformer = middle if middle_depth else transformer
    linear = len(shapes.tensors[f"{transformer}proj_in.weight"].shape) == 2 if f"{transformer}proj_in.weight" in shapes else False
    added, guidance = f"{prefix}label_emb.0.0.weight", f"{prefix}time_embedding.cond_proj.weight"
    return UNetConfig(
        in_channels=in_channels,
        out_channels=shapes.get(f"{prefix}out.2.weight", 4)[0] if whole else in_channels,
        model_channels=model_channels,
        channel_mult=tuple(multiple(widths[-1] if widths else 0, model_channels) for widths in levels),
        num_res_blocks=len(levels[0]),
        transformer_depth=tuple(depths),
        middle_depth=middle_depth,
        num_heads=None if linear else 8,
        head_channels=64 if linear else None,  # Stable Diffusion 2 changed both at once
        context_dim=shapes.get(f"{transformer}transformer_blocks.0.attn2.to_k.weight", 2)[1],
        linear_projection=linear,
        added_dim=shapes.get(added, 2)[1] if added in shapes else None,
        guidance_dim=shapes.get(guidance, 2)[1] if guidance in shapes else None,
    )


def _depth(shapes: Shapes, transformer: str) -> int:
    """How many blocks the transformer of this name has; 0 where it is none."""
    return shapes.count(f"{transformer}transformer_blocks.{{}}.attn2.to_k.weight")
