"""Single files in the layout of the published latent diffusion models: which model, and of which sizes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nodegraph_diffusion.checkpoint.errors import CheckpointError
from nodegraph_diffusion.checkpoint.header import TensorInfo
from nodegraph_diffusion.checkpoint.model import Checkpoint, Part
from nodegraph_diffusion.config import CLIPTextConfig, UNetConfig, VAEConfig
from nodegraph_diffusion.schedule import NoiseSchedule

PREFIXES: dict[Part, str] = {
    "unet": "model.diffusion_model.",
    "vae": "first_stage_model.",
    "text_encoder": "cond_stage_model.transformer.",
}

KNOWN_UNUSED = re.compile(
    r"model_ema\..*"  # the training's moving average; the plain weights are the published model
    r"|(alphas_cumprod|alphas_cumprod_prev|betas|sqrt_.*|log_one_minus_.*|posterior_.*|lvlb_weights|logvar)"  # schedule
    r"|first_stage_model\.loss\..*"  # the autoencoder's discriminator
    r"|.*\.position_ids"  # 0 to 76
    r"|(cond_stage_model\.)?(.*\.)?(logit_scale|text_projection(\.weight)?)"  # CLIP's comparison with pictures
)

# What a file is, by the first of these that one of its keys begins with; the second list, where it has no UNet.
_FAMILIES = (
    (r"conditioner\.embedders\.1\.", "a Stable Diffusion XL model"),
    (r"conditioner\.embedders\.", "a Stable Diffusion XL refiner"),
    (r"cond_stage_model\.model\.", "a Stable Diffusion 2.x model"),
    (r"(model\.diffusion_model\.)?joint_blocks\.", "a Stable Diffusion 3 model"),
    (r"(model\.diffusion_model\.)?double_blocks\.", "a Flux model"),
)
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
    _check_family(path, tensors)
    shapes = _Shapes(path, tensors)
    try:
        unet, vae, text = _unet_config(shapes), _vae_config(shapes), _text_config(shapes)
    except ValueError as error:
        expected, hint = "sizes of a Stable Diffusion 1.x model", "The file is damaged or of another layout."
        raise CheckpointError(path, expected=expected, found=str(error), hint=hint) from error
    return Checkpoint(
        path=path,
        layout="ldm",
        kind="sd1",
        unet=unet,
        vae=vae,
        text=text,
        schedule=NoiseSchedule(),
        sample_size=512,
        tokenizer=None,
        weights=dict.fromkeys(PREFIXES, path),
        files=(path,),
    )


def _check_family(path: Path, tensors: Mapping[str, TensorInfo]) -> None:
    missing = [prefix for prefix in PREFIXES.values() if not any(key.startswith(prefix) for key in tensors)]
    families = _FAMILIES + _NO_MODEL if PREFIXES["unet"] in missing else _FAMILIES
    for pattern, name in families:
        if any(re.match(pattern, key) for key in tensors):
            raise CheckpointError(
                path,
                expected="a Stable Diffusion 1.x model",
                found=name,
                hint="Give the file of a whole Stable Diffusion 1.x model.",
            )
    if missing:
        some = ", ".join(repr(key) for key in sorted(tensors)[:3]) or "no tensor"
        raise CheckpointError(
            path,
            expected=f"tensors whose names begin with {' and '.join(missing)}",
            found=f"none ({some}, ...)",
            hint="Give the file of a whole Stable Diffusion 1.x model: UNet, autoencoder and text encoder.",
        )
    unknown = [k for k in tensors if not k.startswith(tuple(PREFIXES.values())) and not KNOWN_UNUSED.fullmatch(k)]
    if unknown:
        raise CheckpointError(
            path,
            expected="only tensors of a Stable Diffusion 1.x model",
            found=f"{len(unknown)} unknown, such as {unknown[0]!r}",
            hint="Remove them or give another file.",
        )


def _unet_config(shapes: _Shapes) -> UNetConfig:
    prefix = PREFIXES["unet"]
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
    added = f"{prefix}label_emb.0.0.weight"
    return UNetConfig(
        in_channels=in_channels,
        out_channels=shapes.get(f"{prefix}out.2.weight", 4)[0],
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
    )


def _depth(shapes: _Shapes, transformer: str) -> int:
    """How many blocks the transformer of this name has; 0 where it is none."""
    depth = 0
    while f"{transformer}transformer_blocks.{depth}.attn2.to_k.weight" in shapes:
        depth += 1
    return depth


def _vae_config(shapes: _Shapes) -> VAEConfig:
    prefix = PREFIXES["vae"]
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
    )


def _text_config(shapes: _Shapes) -> CLIPTextConfig:
    prefix = PREFIXES["text_encoder"]
    if any(key.startswith(f"{prefix}text_model.") for key in shapes.tensors):
        prefix += "text_model."
    vocab_size, width = shapes.get(f"{prefix}embeddings.token_embedding.weight", 2)
    layers = 0
    while f"{prefix}encoder.layers.{layers}.mlp.fc1.weight" in shapes:
        layers += 1
    return CLIPTextConfig(
        vocab_size=vocab_size,
        width=width,
        layers=layers,
        heads=_multiple(width, 64),
        max_length=shapes.get(f"{prefix}embeddings.position_embedding.weight", 2)[0],
        mlp_width=shapes.get(f"{prefix}encoder.layers.0.mlp.fc1.weight", 2)[0],
    )


def _multiple(width: int, of: int) -> int:
    if of <= 0 or width <= 0 or width % of:
        raise ValueError(f"a width of {width}, which is no multiple of {of}")
    return width // of
