"""diffusers' config files and our configs, read and written by one table of what they have in common.

`*_FIXED` are the options of diffusers that have only one value in our networks. A config with another value belongs to a
network that we do not have.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nodegraph_diffusion.checkpoint.files.json_file import Json
from nodegraph_diffusion.networks.config import CLIPTextConfig, UNetConfig, VAEConfig
from nodegraph_diffusion.noise_schedule import NoiseSchedule

UNET_FIXED: Json = {
    "act_fn": "silu",
    "attention_type": "default",
    "center_input_sample": False,
    "class_embed_type": None,
    "conv_in_kernel": 3,
    "conv_out_kernel": 3,
    "cross_attention_norm": None,
    "downsample_padding": 1,
    "dual_cross_attention": False,
    "encoder_hid_dim": None,
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "mid_block_scale_factor": 1,
    "norm_eps": 1e-5,
    "num_class_embeds": None,
    "only_cross_attention": False,
    "resnet_time_scale_shift": "default",
    "time_embedding_type": "positional",
}
VAE_FIXED: Json = {
    "act_fn": "silu",
    "in_channels": 3,
    "latents_mean": None,
    "latents_std": None,
    "out_channels": 3,
    "shift_factor": None,
    "use_post_quant_conv": True,
    "use_quant_conv": True,
}
TEXT_FIXED: Json = {"layer_norm_eps": 1e-5}
SCHEDULER_FIXED: Json = {"beta_schedule": "scaled_linear", "trained_betas": None}

_BLOCKS = {"CrossAttnDownBlock2D": True, "DownBlock2D": False}
_UP_BLOCKS = {"CrossAttnUpBlock2D": True, "UpBlock2D": False}
_MIDDLE = {"UNetMidBlock2DCrossAttn": 2, "UNetMidBlock2D": 1, None: 0}
"""How many residual blocks each kind of middle block has in a UNet2DConditionModel. Only the first has transformers."""

_PREDICTIONS = {"eps": "epsilon", "v": "v_prediction"}


def read_unet(json: Json) -> UNetConfig:
    """The sizes in a UNet2DConditionModel's config. Raises ValueError if our UNet cannot be such a network."""
    _check_fixed(json, UNET_FIXED)
    widths = _widths(json["block_out_channels"])
    channel_mult = _mults(widths)
    attention = tuple(_one_of(_BLOCKS, name) for name in json["down_block_types"])
    if tuple(_one_of(_UP_BLOCKS, name) for name in json["up_block_types"]) != attention[::-1]:
        raise ValueError("up_block_types does not mirror down_block_types")
    # diffusers calls the number of heads of these models `attention_head_dim`
    num_heads, head_channels = _heads(json.get("num_attention_heads") or json.get("attention_head_dim", 8), widths)
    layers = _single("layers_per_block", json["layers_per_block"])
    depths = _depths_down(json, len(widths))
    transformer_depth = tuple(depth if attends else 0 for depth, attends in zip(depths, attention, strict=True))
    middle_blocks = _one_of(_MIDDLE, json.get("mid_block_type", "UNetMidBlock2DCrossAttn"))
    added = json.get("addition_embed_type")
    if added not in (None, "text_time"):
        raise ValueError(f"addition_embed_type is {added!r}, not None or 'text_time'")
    if added is not None and json.get("addition_time_embed_dim") != 256:
        raise ValueError(f"addition_time_embed_dim is {json.get('addition_time_embed_dim')!r}, not 256")
    return UNetConfig(
        in_channels=json["in_channels"],
        out_channels=json["out_channels"],
        model_channels=widths[0],
        channel_mult=channel_mult,
        num_res_blocks=layers,
        transformer_depth=transformer_depth,
        up_depth=_depths_up(json, transformer_depth, layers + 1),
        middle_blocks=middle_blocks,
        middle_depth=depths[-1] if middle_blocks == 2 else 0,
        num_heads=num_heads,
        head_channels=head_channels,
        context_dim=_single("cross_attention_dim", json["cross_attention_dim"]),
        linear_projection=json.get("use_linear_projection", False),
        norm_groups=json.get("norm_num_groups", 32),
        added_dim=json["projection_class_embeddings_input_dim"] if added is not None else None,
        guidance_dim=json.get("time_cond_proj_dim"),
    )


def write_unet(config: UNetConfig, sample_size: int) -> Json:
    """The config of diffusers' UNet2DConditionModel of these sizes; `sample_size` in latent cells."""
    if config.labels is not None or config.beside is not None:
        raise ValueError("unet: expected one that receives text alone, since diffusers has no others; save it as .safetensors")
    down, up = ({attention: name for name, attention in blocks.items()} for blocks in (_BLOCKS, _UP_BLOCKS))
    attention = [depth > 0 for depth in config.transformer_depth]
    heads: int | list[int] | None = config.num_heads
    if heads is None:
        heads = [config.heads(mult * config.model_channels) for mult in config.channel_mult]
    depths = [depth or 1 for depth in config.transformer_depth]
    if config.middle_blocks == 2:
        depths[-1] = config.middle_depth  # in diffusers the middle has the depth of the last level
    ups = {}
    if config.up_depth is not None:
        ups["reverse_transformer_layers_per_block"] = [[depth or 1 for depth in level] for level in reversed(config.up_depth)]
    added: Json = {"addition_embed_type": None}
    if config.added_dim is not None:
        dims = {"addition_time_embed_dim": 256, "projection_class_embeddings_input_dim": config.added_dim}
        added = {"addition_embed_type": "text_time", **dims}
    return {
        "_class_name": "UNet2DConditionModel",
        "attention_head_dim": heads,
        "block_out_channels": [mult * config.model_channels for mult in config.channel_mult],
        "cross_attention_dim": config.context_dim,
        "down_block_types": [down[attends] for attends in attention],
        "in_channels": config.in_channels,
        "layers_per_block": config.num_res_blocks,
        "mid_block_type": next(name for name, blocks in _MIDDLE.items() if blocks == config.middle_blocks),
        "norm_num_groups": config.norm_groups,
        "out_channels": config.out_channels,
        "sample_size": sample_size,
        "time_cond_proj_dim": config.guidance_dim,
        "transformer_layers_per_block": depths[0] if len(set(depths)) == 1 else depths,
        "up_block_types": [up[attends] for attends in reversed(attention)],
        "use_linear_projection": config.linear_projection,
        **added,
        **ups,
        **UNET_FIXED,
    }


def read_vae(json: Json) -> VAEConfig:
    """The sizes in an AutoencoderKL's config. Raises ValueError if our autoencoder cannot be such a network."""
    _check_fixed(json, VAE_FIXED)
    widths = _widths(json["block_out_channels"])
    return VAEConfig(
        channels=widths[0],
        channel_mult=_mults(widths),
        num_res_blocks=json["layers_per_block"],
        latent_channels=json["latent_channels"],
        norm_groups=json.get("norm_num_groups", 32),
        mid_attention=json.get("mid_block_add_attention", True),
        scaling_factor=json.get("scaling_factor", 0.18215),
    )


def write_vae(config: VAEConfig, sample_size: int) -> Json:
    """The config of diffusers' AutoencoderKL of these sizes; `sample_size` in pixels. Raises ValueError for one with a codebook."""
    if config.codes is not None:
        raise ValueError(
            f"vae: expected Gaussian latents, as diffusers' AutoencoderKL has, found a codebook of {config.codes} vectors; "
            f"save it as .safetensors"
        )
    levels = len(config.channel_mult)
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [mult * config.channels for mult in config.channel_mult],
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "force_upcast": False,
        "latent_channels": config.latent_channels,
        "layers_per_block": config.num_res_blocks,
        "mid_block_add_attention": config.mid_attention,
        "norm_num_groups": config.norm_groups,
        "sample_size": sample_size,
        "scaling_factor": config.scaling_factor,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        **VAE_FIXED,
    }


def read_text(json: Json, xl: bool = False) -> CLIPTextConfig:
    """The sizes in the config of a CLIPTextModel; `xl`: of Stable Diffusion XL.

    Raises ValueError if our text encoder cannot be such a network.
    """
    _check_fixed(json, TEXT_FIXED)
    activation = json.get("hidden_act", "quick_gelu")
    if activation not in ("quick_gelu", "gelu"):
        raise ValueError(f"hidden_act is {activation!r}, not 'quick_gelu' or 'gelu'")
    return CLIPTextConfig(
        vocab_size=json["vocab_size"],
        width=json["hidden_size"],
        layers=json["num_hidden_layers"],
        heads=json["num_attention_heads"],
        max_length=json["max_position_embeddings"],
        mlp_width=json["intermediate_size"],
        activation=activation,
        projection=json["projection_dim"] if xl and json.get("architectures") == ["CLIPTextModelWithProjection"] else None,
        layer=2 if xl else 1,
        final_norm=not xl,
        eos=json["vocab_size"] - 1 if json.get("eos_token_id", 2) == 2 else json["eos_token_id"],  # 2 was an early mistake
    )


def write_text(config: CLIPTextConfig, tokens: Mapping[str, int]) -> Json:
    """The config of transformers' CLIPTextModel of these sizes; `tokens` are ids such as `bos_token_id`.

    Raises ValueError for an encoder whose tokens attend to all others.
    """
    if not config.causal:
        raise ValueError(
            "text_encoder: expected a causal one, as transformers' CLIPTextModel is, found one whose tokens attend to all others; "
            "save it as .safetensors"
        )
    return {
        "architectures": ["CLIPTextModel"],
        "hidden_act": config.activation,
        "hidden_size": config.width,
        "intermediate_size": config.mlp_width,
        "max_position_embeddings": config.max_length,
        "model_type": "clip_text_model",
        "num_attention_heads": config.heads,
        "num_hidden_layers": config.layers,
        "projection_dim": config.width,
        "vocab_size": config.vocab_size,
        **TEXT_FIXED,
        **tokens,
    }


def read_scheduler(json: Json) -> NoiseSchedule:
    """The training-time noise schedule in the config of any scheduler of diffusers. Raises ValueError for other schedules."""
    if str(json.get("_class_name", "")).startswith("EDM"):
        raise ValueError("the noise levels of Karras et al. 2022 (Playground 2.5, CosXL)")
    _check_fixed(json, SCHEDULER_FIXED)
    predictions = {diffusers_name: name for name, diffusers_name in _PREDICTIONS.items()}
    return NoiseSchedule(
        steps=json.get("num_train_timesteps", 1000),
        beta_start=json["beta_start"],
        beta_end=json["beta_end"],
        prediction=_one_of(predictions, json.get("prediction_type", "epsilon")),
        zero_snr=json.get("rescale_betas_zero_snr", False),
    )


def write_scheduler(schedule: NoiseSchedule) -> Json:
    """The config of diffusers' EulerDiscreteScheduler that samples as our `euler` with the schedule `normal`."""
    return {
        "_class_name": "EulerDiscreteScheduler",
        "beta_end": schedule.beta_end,
        "beta_start": schedule.beta_start,
        "interpolation_type": "linear",
        "num_train_timesteps": schedule.steps,
        "prediction_type": _PREDICTIONS[schedule.prediction],
        "rescale_betas_zero_snr": schedule.zero_snr,
        "steps_offset": 1,
        "timestep_spacing": "linspace",
        "use_karras_sigmas": False,
        **SCHEDULER_FIXED,
    }


def _check_fixed(json: Json, fixed: Json) -> None:
    for name, value in fixed.items():
        if json.get(name, value) != value:
            raise ValueError(f"{name} is {json[name]!r}, not {value!r}")


def _one_of(table: Mapping[Any, Any], name: Any) -> Any:
    if not isinstance(name, str | None) or name not in table:
        raise ValueError(f"{name!r} is not one of {', '.join(map(str, table))}")
    return table[name]


def _single(name: str, value: Any) -> int:
    """`value`, or the one value that all its entries have if it is a list with one for each level."""
    values = set(value) if isinstance(value, list) else {value}
    if len(values) != 1:
        raise ValueError(f"{name} is {value}, different numbers for the levels")
    return int(values.pop())


def _by_level(name: str, value: Any, levels: int) -> list[int]:
    """`value` for each level; it may be given once or level by level."""
    values = value if isinstance(value, list) else [value] * levels
    if len(values) != levels or not all(isinstance(one, int) for one in values):
        raise ValueError(f"{name} is {value}, not a number or one for each of {levels} levels")
    return values


def _depths_down(json: Json, levels: int) -> list[int]:
    """The depth of the transformers of each level on the way down, which may be given for each of its blocks, all the same."""
    name = "transformer_layers_per_block"
    value = json.get(name, 1)
    if isinstance(value, list):
        value = [_single(name, level) if isinstance(level, list) else level for level in value]
    return _by_level(name, value, levels)


def _depths_up(json: Json, down: tuple[int, ...], blocks: int) -> tuple[tuple[int, ...], ...] | None:
    """The depth of the transformer after each block on the way up, by level from the finest; None if it is that on the way down."""
    name = "reverse_transformer_layers_per_block"
    value = json.get(name)
    if value is None:
        return None
    if not isinstance(value, list) or len(value) != len(down):
        raise ValueError(f"{name} is {value}, not one entry for each of {len(down)} levels")
    levels = [level if isinstance(level, list) else [level] * blocks for level in reversed(value)]
    if any(type(depth) is not int for level in levels for depth in level):
        raise ValueError(f"{name} is {value}, not numbers of transformer blocks")
    ups = tuple(tuple(level) if depth else (0,) * blocks for level, depth in zip(levels, down, strict=True))
    return None if all(set(level) == {depth} for level, depth in zip(ups, down, strict=True)) else ups


def _heads(value: Any, widths: list[int]) -> tuple[int | None, int | None]:
    """The number of heads; or, if it differs from level to level, the width of each head."""
    counts = _by_level("attention_head_dim", value, len(widths))
    if len(set(counts)) == 1:
        return counts[0], None
    each = {width // count for width, count in zip(widths, counts, strict=True)}
    if len(each) != 1:
        raise ValueError(f"attention_head_dim is {value}: heads of several widths")
    return None, each.pop()


def _widths(value: Any) -> list[int]:
    if not isinstance(value, list) or not value or not all(type(width) is int and width > 0 for width in value):
        raise ValueError(f"block_out_channels is {value!r}, not the width of each level")
    return value


def _mults(widths: list[int]) -> tuple[int, ...]:
    if any(width % widths[0] for width in widths):
        raise ValueError(f"block_out_channels {widths} are not multiples of the first")
    return tuple(width // widths[0] for width in widths)
