"""Single files in the layout of the published latent diffusion models: which model, and of which sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import pstdev

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.header import TensorInfo, read_floats
from nodegraph_diffusion.checkpoint.model import NAMES, TEXT_PARTS, Checkpoint, Kind, Part
from nodegraph_diffusion.config import CLIPTextConfig, UNetConfig, VAEConfig
from nodegraph_diffusion.schedule import NoiseSchedule

_IN_ALL: dict[Part, str] = {"unet": "model.diffusion_model.", "vae": "first_stage_model."}
PREFIXES: dict[Kind, dict[Part, str]] = {
    "sd1": {**_IN_ALL, "text_encoder": "cond_stage_model.transformer."},
    "sd2": {**_IN_ALL, "text_encoder": "cond_stage_model.model."},
    "sdxl": {**_IN_ALL, "text_encoder": "conditioner.embedders.0.transformer.", "text_encoder_2": "conditioner.embedders.1.model."},
    "sdxl-refiner": {**_IN_ALL, "text_encoder_2": "conditioner.embedders.0.model."},
}

KNOWN_UNUSED = re.compile(
    r"model_ema\..*"  # the training's moving average; the plain weights are the published model
    r"|(alphas_cumprod|alphas_cumprod_prev|betas|sqrt_.*|log_one_minus_.*|posterior_.*|lvlb_weights|logvar)"  # schedule
    r"|first_stage_model\.loss\..*"  # the autoencoder's discriminator
    r"|.*\.position_ids"  # 0 to 76
    r"|(.*\.)?(logit_scale|text_projection(\.weight)?)"  # CLIP's comparison with pictures, but for SDXL's second encoder
    r"|v_pred|ztsnr|difference"  # marks: what the model predicts, what a ControlNet's file holds
)

# What a file is that is none of ours, by the first of these that one of its keys begins with; the second list, without a UNet.
_OTHERS = (
    (r"(model\.diffusion_model\.)?joint_blocks\.", "a Stable Diffusion 3 model"),
    (r"(model\.diffusion_model\.)?double_blocks\.", "a Flux model"),
)
_EDM = ("edm_mean", "edm_std", "edm_vpred.sigma_min", "edm_vpred.sigma_max")  # marks of Playground 2.5 and CosXL
# The 768 model of Stable Diffusion 2 says nowhere that it predicts velocity; training it so has spread this bias.
_SPREAD_BY_V = "model.diffusion_model.output_blocks.11.1.transformer_blocks.0.norm1.bias"
_SPREAD = 0.09

_NO_MODEL = (
    (r".*(lora_|\.lora\.|\.hada_|\.lokr_)", "a LoRA"),
    (r"(control_model|controlnet_cond_embedding|input_hint_block|zero_convs)\.", "a ControlNet"),
    (r"(emb_params|clip_[lg]$|string_to_param)", "a textual inversion embedding"),
    (r"(down_blocks|time_embedding)\.", "the UNet of a diffusers folder"),
    (r"(first_stage_model\.)?(encoder\.(down|conv_in)|decoder\.(up|conv_in))", "an autoencoder (VAE) alone"),
    (r"(cond_stage_model\.transformer\.)?(text_model\.)?(encoder\.layers|embeddings)\.", "a text encoder alone"),
)


@dataclass(frozen=True)
class _Shapes:
    """The shapes of a file's tensors; asking for one that is missing or of another rank is a CheckpointError."""

    path: Path
    tensors: Mapping[str, TensorInfo]

    def __contains__(self, key: str) -> bool:
        return key in self.tensors

    def get(self, key: str, rank: int) -> tuple[int, ...]:
        info = self.tensors.get(key)
        if info is None or len(info.shape) != rank:
            found = "none" if info is None else f"one of shape {list(info.shape)}"
            raise CheckpointError(
                self.path,
                expected=f"a tensor {key!r} of {rank} dimensions",
                found=found,
                hint="The file is incomplete or of another layout; download it again or give another.",
            )
        return info.shape


def detect_ldm(path: Path, tensors: Mapping[str, TensorInfo]) -> Checkpoint:
    """The checkpoint in the file at `path` with these tensors. Raises CheckpointError unless it is of a known kind."""
    kind, because = _kind(path, tensors)
    shapes = _Shapes(path, tensors)
    prefixes = PREFIXES[kind]
    try:
        unet, vae = _unet_config(shapes), _vae_config(shapes, 0.13025 if kind.startswith("sdxl") else 0.18215)
        texts = tuple(_text_config(shapes, prefixes[part], kind) for part in TEXT_PARTS if part in prefixes)
    except ValueError as error:
        expected, hint = f"sizes of a {NAMES[kind]} model", "The file is damaged or of another layout."
        raise CheckpointError(path, expected=expected, found=str(error), hint=hint) from error
    schedule, trained = _schedule(path, tensors, kind, unet)
    return Checkpoint(
        path=path,
        layout="ldm",
        kind=kind,
        unet=unet,
        vae=vae,
        texts=texts,
        schedule=schedule,
        sample_size=1024 if kind.startswith("sdxl") else 768 if kind == "sd2" and schedule.prediction == "v" else 512,
        tokenizers=(None,) * len(texts),
        weights=dict.fromkeys(prefixes, (path,)),
        files=(path,),
        reason=f"{NAMES[kind]}, since {because}; {trained}",
    )


def _kind(path: Path, tensors: Mapping[str, TensorInfo]) -> tuple[Kind, str]:
    """Which model the file holds, and why. Raises CheckpointError for others, for parts and for what is unknown."""
    begins = {prefix for kind in PREFIXES.values() for prefix in kind.values() if any(key.startswith(prefix) for key in tensors)}
    for pattern, name in _OTHERS if PREFIXES["sd1"]["unet"] in begins else _OTHERS + _NO_MODEL:
        if any(re.match(pattern, key) for key in tensors):
            raise CheckpointError(
                path,
                expected="a Stable Diffusion model",
                found=name,
                hint="Give the file of a whole Stable Diffusion 1, 2 or XL model.",
            )
    if edm := [key for key in _EDM if key in tensors]:
        raise CheckpointError(
            path,
            expected="a model that was trained on the noise levels of Stable Diffusion",
            found=f"the mark {edm[0]!r}, which one has that was trained on those of Karras et al. 2022 (Playground 2.5, CosXL)",
            hint="Such models are not supported; give one that predicts noise or velocity.",
        )
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
    unknown = [key for key in tensors if not key.startswith(prefixes) and not KNOWN_UNUSED.fullmatch(key)]
    if unknown:
        raise CheckpointError(
            path,
            expected=f"only tensors of a {NAMES[kind]} model",
            found=f"{len(unknown)} unknown, such as {unknown[0]!r}",
            hint="Remove them or give another file.",
        )
    below = " and ".join(repr(prefix) for prefix in prefixes[2:])
    return kind, f"its text encoder{'s lie' if len(prefixes) > 3 else ' lies'} below {below}"


def _schedule(path: Path, tensors: Mapping[str, TensorInfo], kind: Kind, unet: UNetConfig) -> tuple[NoiseSchedule, str]:
    """What the network was trained to predict, and how that is known."""
    if "v_pred" in tensors:
        return NoiseSchedule(prediction="v", zero_snr="ztsnr" in tensors), "the mark 'v_pred' says that it predicts velocity"
    if kind == "sd2" and unet.in_channels == unet.out_channels and _SPREAD_BY_V in tensors:
        spread = pstdev(read_floats(path, _SPREAD_BY_V))
        if spread > _SPREAD:
            return NoiseSchedule(
                prediction="v"
            ), f"it predicts velocity, as far as the spread of one of its biases ({spread:.2f}) tells"
        return NoiseSchedule(), f"it predicts noise, as far as the spread of one of its biases ({spread:.2f}) tells"
    return NoiseSchedule(), "it predicts noise"


def encoder_config(path: Path, tensors: Mapping[str, TensorInfo], prefix: str) -> UNetConfig:
    """The sizes of a UNet of which only the half that goes down is there, below `prefix`. Raises CheckpointError, ValueError."""
    return _unet_config(_Shapes(path, tensors), prefix, whole=False)


def _unet_config(shapes: _Shapes, prefix: str = PREFIXES["sd1"]["unet"], whole: bool = True) -> UNetConfig:
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
        channel_mult=tuple(_multiple(widths[-1] if widths else 0, model_channels) for widths in levels),
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


def _depth(shapes: _Shapes, transformer: str) -> int:
    """How many blocks the transformer of this name has; 0 where it is none."""
    depth = 0
    while f"{transformer}transformer_blocks.{depth}.attn2.to_k.weight" in shapes:
        depth += 1
    return depth


def _vae_config(shapes: _Shapes, scaling_factor: float) -> VAEConfig:
    prefix = PREFIXES["sd1"]["vae"]
    channels = shapes.get(f"{prefix}encoder.conv_in.weight", 4)[0]
    levels = blocks = 0
    widths = []
    while (key := f"{prefix}encoder.down.{levels}.block.0.conv1.weight") in shapes:
        widths.append(shapes.get(key, 4)[0])
        levels += 1
    while f"{prefix}encoder.down.0.block.{blocks}.conv1.weight" in shapes:
        blocks += 1
    return VAEConfig(
        channels=channels,
        channel_mult=tuple(_multiple(width, channels) for width in widths),
        num_res_blocks=blocks,
        latent_channels=shapes.get(f"{prefix}post_quant_conv.weight", 4)[0],
        mid_attention=f"{prefix}encoder.mid.attn_1.q.weight" in shapes,
        scaling_factor=scaling_factor,
    )


def _text_config(shapes: _Shapes, prefix: str, kind: Kind) -> CLIPTextConfig:
    if prefix.endswith("model."):
        return _openclip_config(shapes, prefix, kind)
    if any(key.startswith(f"{prefix}text_model.") for key in shapes.tensors):
        prefix += "text_model."
    vocab_size, width = shapes.get(f"{prefix}embeddings.token_embedding.weight", 2)
    return CLIPTextConfig(
        vocab_size=vocab_size,
        width=width,
        layers=_layers(shapes, f"{prefix}encoder.layers.", "mlp.fc1.weight"),
        heads=_multiple(width, 64),
        max_length=shapes.get(f"{prefix}embeddings.position_embedding.weight", 2)[0],
        mlp_width=shapes.get(f"{prefix}encoder.layers.0.mlp.fc1.weight", 2)[0],
        eos=vocab_size - 1,
        layer=2 if kind == "sdxl" else 1,
        final_norm=kind != "sdxl",
    )


def _openclip_config(shapes: _Shapes, prefix: str, kind: Kind) -> CLIPTextConfig:
    """Of a text encoder named as OpenCLIP names it. Each was trained to be read at the last layer but one."""
    vocab_size, width = shapes.get(f"{prefix}token_embedding.weight", 2)
    xl = kind != "sd2"
    return CLIPTextConfig(
        vocab_size=vocab_size,
        width=width,
        layers=_layers(shapes, f"{prefix}transformer.resblocks.", "mlp.c_fc.weight"),
        heads=_multiple(width, 64),
        max_length=shapes.get(f"{prefix}positional_embedding", 2)[0],
        mlp_width=shapes.get(f"{prefix}transformer.resblocks.0.mlp.c_fc.weight", 2)[0],
        activation="gelu",
        projection=shapes.get(f"{prefix}text_projection", 2)[1] if xl else None,
        layer=2,
        final_norm=not xl,
        eos=vocab_size - 1,
    )


def _layers(shapes: _Shapes, prefix: str, name: str) -> int:
    layers = 0
    while f"{prefix}{layers}.{name}" in shapes:
        layers += 1
    return layers


def _multiple(width: int, of: int) -> int:
    if of <= 0 or width <= 0 or width % of:
        raise ValueError(f"a width of {width}, which is no multiple of {of}")
    return width // of
