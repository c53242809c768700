"""The name and shape of every tensor of a network of some size, without torch: what a file of its weights must hold."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

from nodegraph_diffusion.networks.config import (
    HINT_WIDTHS,
    CLIPTextConfig,
    CLIPVisionConfig,
    GligenConfig,
    T2IAdapterConfig,
    UNetConfig,
    UpscalerConfig,
    VAEConfig,
)

Shape = tuple[int, ...]
TensorShapes = dict[str, Shape]


def count_numbers(shapes: Mapping[str, Shape]) -> int:
    """How many numbers the tensors hold together."""
    return sum(map(math.prod, shapes.values()))


def unet_shapes(config: UNetConfig) -> TensorShapes:
    """The tensors of a `UNet`, by our names, which are the published ones."""
    shapes = _encoder(config)
    skips, channels = _skips(config), _skips(config)[-1]
    index = 0
    for level, (mult, depths) in reversed(list(enumerate(zip(config.channel_mult, config.up_depths, strict=True)))):
        for i, depth in enumerate(depths):
            name, width = f"output_blocks.{index}", mult * config.model_channels
            shapes |= _res_block(f"{name}.0", config, channels + skips.pop(), width)
            shapes |= _transformer(f"{name}.1", config, width, depth)
            channels, index = width, index + 1
            if level > 0 and i == config.num_res_blocks:
                shapes |= _convolution(f"{name}.{2 if depth else 1}.conv", width, width)
    return shapes | _norm("out.0", channels) | _convolution("out.2", channels, config.out_channels)


def transformer_widths(config: UNetConfig) -> dict[str, int]:
    """The names of the transformer blocks of a `UNet`, each with its number of channels."""
    mark = ".attn1.to_q.weight"
    return {name.removesuffix(mark): shape[0] for name, shape in unet_shapes(config).items() if name.endswith(mark)}


def controlnet_shapes(config: UNetConfig, hint_widths: Sequence[int] = HINT_WIDTHS) -> TensorShapes:
    """The tensors of a `ControlNet` of this config and these channels of the maps of its hint."""
    shapes, skips = _encoder(config), _skips(config)
    layers = [(3, hint_widths[0])]
    for width, following in pairwise(hint_widths):
        layers += [(width, width), (width, following)]
    for i, (into, out) in enumerate([*layers, (hint_widths[-1], config.model_channels)]):
        shapes |= _convolution(f"input_hint_block.{2 * i}", into, out)
    for i, width in enumerate(skips):
        shapes |= _convolution(f"zero_convs.{i}.0", width, width, size=1)
    return shapes | _convolution("middle_block_out.0", skips[-1], skips[-1], size=1)


def vae_shapes(config: VAEConfig) -> TensorShapes:
    """The tensors of an `AutoencoderKL`, or of an `AutoencoderVQ` if the config has codes."""
    latent, widths = config.latent_channels, [mult * config.channels for mult in config.channel_mult]
    last = len(widths) - 1
    shapes = _convolution("encoder.conv_in", 3, config.channels) | _convolution("decoder.conv_in", latent, widths[-1])
    channels = config.channels
    for level, width in enumerate(widths):
        for i in range(config.num_res_blocks):
            shapes |= _vae_block(f"encoder.down.{level}.block.{i}", channels, width)
            channels = width
        if level < last:
            shapes |= _convolution(f"encoder.down.{level}.downsample.conv", width, width)
    for level, width in reversed(list(enumerate(widths))):
        for i in range(config.num_res_blocks + 1):
            shapes |= _vae_block(f"decoder.up.{level}.block.{i}", channels, width)
            channels = width
        if level > 0:
            shapes |= _convolution(f"decoder.up.{level}.upsample.conv", width, width)
    for half in ("encoder", "decoder"):
        for i in (1, 2):
            shapes |= _vae_block(f"{half}.mid.block_{i}", widths[-1], widths[-1])
        if config.mid_attention:
            shapes |= _norm(f"{half}.mid.attn_1.norm", widths[-1])
            for name in ("q", "k", "v", "proj_out"):
                shapes |= _convolution(f"{half}.mid.attn_1.{name}", widths[-1], widths[-1], size=1)
    shapes |= _norm("encoder.norm_out", widths[-1]) | _convolution("encoder.conv_out", widths[-1], config.encoded)
    shapes |= _norm("decoder.norm_out", widths[0]) | _convolution("decoder.conv_out", widths[0], 3)
    if config.codes is not None:
        shapes["quantize.codebook.weight"] = (config.codes, latent)
    shapes |= _convolution("quant_conv", config.encoded, config.encoded, size=1)
    return shapes | _convolution("post_quant_conv", latent, latent, size=1)


def text_shapes(config: CLIPTextConfig) -> TensorShapes:
    """The tensors of a `CLIPTextModel`."""
    width = config.width
    shapes: TensorShapes = {
        "embeddings.token_embedding.weight": (config.vocab_size, width),
        "embeddings.position_embedding.weight": (config.max_length, width),
    }
    shapes |= _clip_layers(config) | _norm("final_layer_norm", width)
    return shapes if config.projection is None else shapes | {"text_projection.weight": (config.projection, width)}


def vision_shapes(config: CLIPVisionConfig) -> TensorShapes:
    """The tensors of a `CLIPVisionModel`."""
    width, patch = config.width, config.patch
    shapes: TensorShapes = {
        "embeddings.class_embedding": (width,),
        "embeddings.patch_embedding.weight": (width, 3, patch, patch),
        "embeddings.position_embedding.weight": (config.patches + 1, width),
    }
    shapes |= _norm("pre_layrnorm", width) | _clip_layers(config) | _norm("post_layernorm", width)
    return shapes | {"visual_projection.weight": (config.projection, width)}


def upscaler_shapes(config: UpscalerConfig) -> TensorShapes:
    """The tensors of an `Upscaler`."""
    width, growth = config.width, config.growth
    shapes = _convolution("conv_first", config.channels * config.unshuffle**2, width)
    for block in (f"body.{i}.rdb{k}" for i in range(config.blocks) for k in (1, 2, 3)):
        for i in range(1, 6):
            shapes |= _convolution(f"{block}.conv{i}", width + (i - 1) * growth, growth if i < 5 else width)
    for name in ("conv_body", *(f"conv_up{i}" for i in range(1, config.doublings + 1)), "conv_hr"):
        shapes |= _convolution(name, width, width)
    return shapes | _convolution("conv_last", width, config.channels)


def t2i_adapter_shapes(config: T2IAdapterConfig) -> TensorShapes:
    """The tensors of a `T2IAdapter`."""
    before = config.channels[0]
    shapes = _convolution("conv_in", config.in_channels * config.unshuffle**2, before)
    for level, width in enumerate(config.channels):
        for i in range(config.blocks):
            name = f"body.{level * config.blocks + i}"
            if i == 0 and before != width:
                shapes |= _convolution(f"{name}.in_conv", before, width, size=1)
            shapes |= _convolution(f"{name}.block1", width, width) | _convolution(f"{name}.block2", width, width, size=1)
        before = width
    return shapes


def gligen_shapes(config: GligenConfig) -> TensorShapes:
    """The tensors of a `Gligen`."""
    position, hidden = 8 * config.frequencies, 512
    shapes = _linear("position_net.linears.0", config.text_width + position, hidden)
    shapes |= _linear("position_net.linears.2", hidden, hidden) | _linear("position_net.linears.4", hidden, config.token_width)
    shapes |= {"position_net.null_positive_feature": (config.text_width,), "position_net.null_position_feature": (position,)}
    for block, width in config.blocks:
        name = f"layers.{block.replace('.', '/')}"
        shapes |= _linear(f"{name}.linear", config.token_width, width) | _linear(f"{name}.attn.to_out.0", width, width)
        shapes |= {f"{name}.attn.to_{part}.weight": (width, width) for part in "qkv"}
        shapes |= _linear(f"{name}.ff.net.0.proj", width, width * 8) | _linear(f"{name}.ff.net.2", width * 4, width)
        shapes |= _norm(f"{name}.norm1", width) | _norm(f"{name}.norm2", width)
        shapes |= {f"{name}.alpha_attn": (), f"{name}.alpha_dense": ()}
    return shapes


def _clip_layers(config: CLIPTextConfig | CLIPVisionConfig) -> TensorShapes:
    """The tensors of CLIP's transformer layers."""
    shapes: TensorShapes = {}
    width = config.width
    for i in range(config.layers):
        layer = f"encoder.layers.{i}"
        for name in ("layer_norm1", "layer_norm2"):
            shapes |= _norm(f"{layer}.{name}", width)
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{layer}.self_attn.{name}", width, width)
        shapes |= _linear(f"{layer}.mlp.fc1", width, config.mlp_width) | _linear(f"{layer}.mlp.fc2", config.mlp_width, width)
    return shapes


def _encoder(config: UNetConfig) -> TensorShapes:
    """The tensors of a `UNetEncoder`."""
    channels, embedding = config.model_channels, config.model_channels * 4
    shapes = _linear("time_embed.0", channels, embedding) | _linear("time_embed.2", embedding, embedding)
    if config.guidance_dim is not None:
        shapes["time_embedding.cond_proj.weight"] = (channels, config.guidance_dim)
    if config.added_dim is not None:
        shapes |= _linear("label_emb.0.0", config.added_dim, embedding) | _linear("label_emb.0.2", embedding, embedding)
    if config.labels is not None:
        shapes["label_tokens.classes.weight"] = (len(config.labels) + 2, config.context_dim)
    if config.box_frequencies is not None:
        width = config.context_dim
        shapes |= _linear("label_tokens.places.0", 8 * config.box_frequencies, width)
        shapes |= _linear("label_tokens.places.2", width, width)
    shapes |= _convolution("input_blocks.0.0", config.in_channels, channels)
    index = 1
    for level, (mult, depth) in enumerate(zip(config.channel_mult, config.transformer_depth, strict=True)):
        for _ in range(config.num_res_blocks):
            width = mult * config.model_channels
            shapes |= _res_block(f"input_blocks.{index}.0", config, channels, width)
            shapes |= _transformer(f"input_blocks.{index}.1", config, width, depth)
            channels, index = width, index + 1
        if level < len(config.channel_mult) - 1:
            shapes |= _convolution(f"input_blocks.{index}.0.op", channels, channels)
            index += 1
    shapes |= _transformer("middle_block.1", config, channels, config.middle_depth)
    for i in range(config.middle_blocks):
        shapes |= _res_block(f"middle_block.{i * (2 if config.middle_depth else 1)}", config, channels, channels)
    return shapes


def _skips(config: UNetConfig) -> list[int]:
    """The widths of the skip connections, in the order of `input_blocks`."""
    widths = [mult * config.model_channels for mult in config.channel_mult]
    inside = [width for width in widths for _ in range(config.num_res_blocks + 1)]  # the last of a level is downsampled
    return [config.model_channels, *inside[:-1]]


def _res_block(name: str, config: UNetConfig, channels: int, out: int) -> TensorShapes:
    shapes = _norm(f"{name}.in_layers.0", channels) | _convolution(f"{name}.in_layers.2", channels, out)
    shapes |= _linear(f"{name}.emb_layers.1", config.model_channels * 4, out)
    shapes |= _norm(f"{name}.out_layers.0", out) | _convolution(f"{name}.out_layers.3", out, out)
    return shapes if channels == out else shapes | _convolution(f"{name}.skip_connection", channels, out, size=1)


def _transformer(name: str, config: UNetConfig, width: int, depth: int) -> TensorShapes:
    if not depth:
        return {}
    projection = (width, width) if config.linear_projection else (width, width, 1, 1)
    shapes = _norm(f"{name}.norm", width)
    for end in ("proj_in", "proj_out"):
        shapes |= {f"{name}.{end}.weight": projection, f"{name}.{end}.bias": (width,)}
    for i in range(depth):
        block = f"{name}.transformer_blocks.{i}"
        for attention, context in (("attn1", width), ("attn2", config.context_dim)):
            shapes[f"{block}.{attention}.to_q.weight"] = (width, width)
            shapes[f"{block}.{attention}.to_k.weight"] = shapes[f"{block}.{attention}.to_v.weight"] = (width, context)
            shapes |= _linear(f"{block}.{attention}.to_out.0", width, width)
        shapes |= _linear(f"{block}.ff.net.0.proj", width, width * 8) | _linear(f"{block}.ff.net.2", width * 4, width)
        for norm in ("norm1", "norm2", "norm3"):
            shapes |= _norm(f"{block}.{norm}", width)
    return shapes


def _vae_block(name: str, channels: int, out: int) -> TensorShapes:
    shapes = _norm(f"{name}.norm1", channels) | _convolution(f"{name}.conv1", channels, out)
    shapes |= _norm(f"{name}.norm2", out) | _convolution(f"{name}.conv2", out, out)
    return shapes if channels == out else shapes | _convolution(f"{name}.nin_shortcut", channels, out, size=1)


def _norm(name: str, width: int) -> TensorShapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _linear(name: str, into: int, out: int) -> TensorShapes:
    return {f"{name}.weight": (out, into), f"{name}.bias": (out,)}


def _convolution(name: str, into: int, out: int, size: int = 3) -> TensorShapes:
    return {f"{name}.weight": (out, into, size, size), f"{name}.bias": (out,)}
