"""The names of modules in an LDM file and in a diffusers folder: one table for both directions.

A table maps a module's published (LDM) name, which is also ours, to diffusers' name. It is built from the config,
because diffusers numbers blocks by level and LDM numbers them in a row. A module below one in the table keeps its name.
"""

from __future__ import annotations

from collections.abc import Mapping

from nodegraph_diffusion.networks.config import UNetConfig, VAEConfig

_RES_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}
_VAE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def unet_modules(config: UNetConfig) -> dict[str, str]:
    """LDM module name -> diffusers module name, for the whole UNet."""
    table = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "out.0": "conv_norm_out",
        "out.2": "conv_out",
        "label_emb.0.0": "add_embedding.linear_1",
        "label_emb.0.2": "add_embedding.linear_2",
    }
    attention = config.middle_depth > 0
    if attention:
        table["middle_block.1"] = "mid_block.attentions.0"
    for i in range(config.middle_blocks):
        table |= _res_block(f"middle_block.{i * (1 + attention)}", f"mid_block.resnets.{i}")
    levels = len(config.channel_mult)
    for level in range(levels):
        down, first = f"down_blocks.{level}", 1 + level * (config.num_res_blocks + 1)
        for i in range(config.num_res_blocks):
            table |= _res_block(f"input_blocks.{first + i}.0", f"{down}.resnets.{i}")
            table[f"input_blocks.{first + i}.1"] = f"{down}.attentions.{i}"
        table[f"input_blocks.{first + config.num_res_blocks}.0.op"] = f"{down}.downsamplers.0.conv"

        up, first = f"up_blocks.{level}", level * (config.num_res_blocks + 1)
        for i, depth in enumerate(config.up_depths[levels - 1 - level]):
            attention = depth > 0
            table |= _res_block(f"output_blocks.{first + i}.0", f"{up}.resnets.{i}")
            if attention:
                table[f"output_blocks.{first + i}.1"] = f"{up}.attentions.{i}"
        table[f"output_blocks.{first + config.num_res_blocks}.{1 + attention}.conv"] = f"{up}.upsamplers.0.conv"
    return table


def vae_modules(config: VAEConfig) -> dict[str, str]:
    """LDM module name -> diffusers module name, for the whole autoencoder."""
    table = {}
    for half in ("encoder", "decoder"):
        table[f"{half}.norm_out"] = f"{half}.conv_norm_out"
        table[f"{half}.mid.block_1"] = f"{half}.mid_block.resnets.0"
        table[f"{half}.mid.block_2"] = f"{half}.mid_block.resnets.1"
        for ldm, diffusers in _VAE_ATTENTION.items():
            table[f"{half}.mid.attn_1.{ldm}"] = f"{half}.mid_block.attentions.0.{diffusers}"
    levels = len(config.channel_mult)
    for level in range(levels):
        for i in range(config.num_res_blocks + 1):
            down, up = f"encoder.down.{level}.block.{i}", f"decoder.up.{level}.block.{i}"
            table[down] = f"encoder.down_blocks.{level}.resnets.{i}"
            table[up] = f"decoder.up_blocks.{levels - 1 - level}.resnets.{i}"
            table[f"{down}.nin_shortcut"] = f"{table[down]}.conv_shortcut"
            table[f"{up}.nin_shortcut"] = f"{table[up]}.conv_shortcut"
        table[f"encoder.down.{level}.downsample"] = f"encoder.down_blocks.{level}.downsamplers.0"
        table[f"decoder.up.{level}.upsample"] = f"decoder.up_blocks.{levels - 1 - level}.upsamplers.0"
    return table


def rename(key: str, modules: Mapping[str, str]) -> str:
    """The tensor `key` with its module renamed; the module is the longest name in the table that it begins with."""
    head, tail = key, ""
    while head:
        if head in modules:
            return modules[head] + tail
        head, dot, last = head.rpartition(".")
        tail = f"{dot}{last}{tail}"
    return key


def _res_block(ldm: str, diffusers: str) -> dict[str, str]:
    return {f"{ldm}.{a}": f"{diffusers}.{b}" for a, b in _RES_BLOCK.items()}
