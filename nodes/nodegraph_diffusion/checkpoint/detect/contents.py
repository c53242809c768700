"""What a file or folder is, by the names of its tensors or the class in its config, and the error if something else is wanted."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nodegraph_diffusion.checkpoint.errors import DOWNLOAD_AGAIN, CheckpointError, Content
from nodegraph_diffusion.checkpoint.files.header import Header
from nodegraph_diffusion.checkpoint.files.json_file import read_json
from nodegraph_diffusion.checkpoint.layouts.diffusers_folder import CONFIG, INDEX
from nodegraph_diffusion.checkpoint.layouts.ldm import TEXT_PREFIXES, UNET_PREFIX, VAE_PREFIX
from nodegraph_diffusion.checkpoint.layouts.other_families import (
    READS,
    RUNS,
    family_of_class,
    family_of_names,
    format_of_names,
)
from nodegraph_diffusion.checkpoint.layouts.scaled_fp8 import (
    FORMAT_OF_LAYER,
    FORMATS_OF_LAYERS,
    LONGEST_FORMAT,
    READABLE,
    format_of_layer,
    formats_of_layers,
)


@dataclass(frozen=True, eq=False)
class Contents:
    """What a file or folder is.

    `name` is for messages, None if it is unknown. `content` is what can be loaded from it, None if nothing can.
    `is_whole_model`: it has a UNet, an autoencoder and a text encoder. `other_family`: it is of a kind that we cannot run, and
    `hint` says what to do then.
    """

    name: str | None = None
    content: Content | None = None
    is_whole_model: bool = False
    other_family: bool = False
    hint: str = RUNS


Rules = tuple[tuple[str, Contents], ...]

_EXPECTED: dict[Content, str] = {
    "model": "a Stable Diffusion model",
    "unet": "a UNet",
    "vae": "an autoencoder (VAE)",
    "text_encoder": "a text encoder",
    "lora": "a LoRA, LoHa, LoKr or DoRA",
    "controlnet": "a ControlNet",
    "embedding": "vectors for a prompt's word",
    "upscaler": "an upscaling network of the ESRGAN kind",
    "image_encoder": "CLIP's image encoder",
    "t2i_adapter": "a T2I-Adapter",
    "gligen": "GLIGEN's layers",
}
_MISSING = ("a UNet", "an autoencoder", "a text encoder")

# The first rule whose pattern matches the beginning of a tensor's name decides what the file is.
_ADAPTERS: Rules = (
    (r".*(lora_|\.lora\.|\.hada_|\.lokr_|\.b?oft_|\.ia3_l|\.set_weight)|bundle_emb\.", Contents("a LoRA", "lora")),
    (r"(control_model|controlnet_cond_embedding|input_hint_block|zero_convs)\.", Contents("a ControlNet", "controlnet")),
    (r"(emb_params|clip_[lg]$|string_to_param)", Contents("a textual inversion embedding", "embedding")),
)
_EXTRA_NETWORKS: Rules = (
    (
        r"(params(_ema)?\.)?(model\.1\.sub\.0\.RDB1|RRDB_trunk\.0\.RDB1|body\.0\.rdb1)\.",
        Contents("an upscaling network", "upscaler"),
    ),
    (r".*\.fuser\.alpha_attn$", Contents("GLIGEN's layers", "gligen")),
    (r"(adapter\.)?body\.0\.(resnets\.0\.)?block1\.", Contents("a T2I-Adapter", "t2i_adapter")),
)
_IMAGE_TENSOR = re.compile(r"vision_model\.embeddings\.|visual\.(transformer\.resblocks|conv1)\.")
_IMAGE_ENCODER = Contents("only an image encoder", "image_encoder")
_TAESD = Contents("a TAESD, which only decodes previews", other_family=True, hint="Give it as --preview-decoder.")
_IN_MODEL = r"((cond_stage_model|conditioner\.embedders\.\d)\.(transformer|model)\.)?"
_PARTS: Rules = (
    (r"((encoder|decoder)\.(layers\.)?)?\d+\.conv\.0\.weight", _TAESD),
    (r"(model\.diffusion_model\.)?(input_blocks|middle_block|output_blocks)\.", Contents("only a UNet", "unet")),
    (r"(down_blocks|mid_block|up_blocks)\.", Contents("only a UNet, with diffusers' names", "unet")),
    (
        r"(first_stage_model\.)?(encoder|decoder)\.(down|mid|up|conv_in|conv_out|down_blocks|mid_block|up_blocks)\.",
        Contents("only an autoencoder (VAE)", "vae"),
    ),
    (
        _IN_MODEL + r"(text_model\.)?(encoder\.layers|embeddings|transformer\.resblocks|token_embedding)\.",
        Contents("only a text encoder", "text_encoder"),
    ),
)
_CLASSES: dict[str, Contents] = {
    "UNet2DConditionModel": Contents("only a UNet", "unet"),
    "AutoencoderKL": Contents("only an autoencoder (VAE)", "vae"),
    "CLIPTextModel": Contents("only a text encoder", "text_encoder"),
    "CLIPTextModelWithProjection": Contents("only a text encoder", "text_encoder"),
    "ControlNetModel": Contents("a ControlNet", "controlnet"),
    "CLIPVisionModelWithProjection": _IMAGE_ENCODER,
    "T2IAdapter": Contents("a T2I-Adapter", "t2i_adapter"),
    "AutoencoderTiny": _TAESD,
}


def file_contents(keys: Collection[str]) -> Contents:
    """What a file with tensors of these names is."""
    has = [any(key.startswith(prefix) for key in keys) for prefix in (UNET_PREFIX, VAE_PREFIX, TEXT_PREFIXES)]
    adapter = None if has[0] else _first(_ADAPTERS, keys)
    if adapter is not None:
        return adapter
    if not has[0] and (extra := _first(_EXTRA_NETWORKS, keys)):
        return extra
    if family := family_of_names(keys):
        return Contents(family, other_family=True)
    if sum(has) > 1:
        return Contents("a whole model", "model", True) if all(has) else Contents(f"a model without {_MISSING[has.index(False)]}")
    return _first(_PARTS, keys) or (_IMAGE_ENCODER if any(map(_IMAGE_TENSOR.match, keys)) else Contents())


def header_contents(header: Header) -> Contents:
    """What a file with this header is. Raises CheckpointError if what it says about the formats of its layers is damaged."""
    found = unreadable_format(header)
    return file_contents(header.tensors) if found is None else Contents(found, other_family=True, hint=READS)


def unreadable_format(header: Header) -> str | None:
    """What a file is if its weights are in a format that cannot be read; None for other files. Raises CheckpointError."""
    other = {layer: name for layer, name in _formats(header).items() if name not in READABLE}
    if not other:
        return format_of_names(header.tensors)
    layer, name = next(iter(other.items()))
    return f"a model with layers in the format {name} ({len(other)}, such as {layer!r})"


def _formats(header: Header) -> dict[str, str]:
    """The format of each layer whose format the file names."""
    text = header.metadata.get(FORMATS_OF_LAYERS)
    names = [name for name in header.tensors if name.endswith(FORMAT_OF_LAYER)]
    large = [name for name in names if header.tensors[name].size > LONGEST_FORMAT]
    try:
        if large:
            raise ValueError(f"{header.tensors[large[0]].size} numbers in {large[0]!r}")
        formats = {} if text is None else formats_of_layers(text)
        for name, data in header.read_bytes(names).items():
            formats[name.removesuffix(FORMAT_OF_LAYER)] = format_of_layer(data)
    except (ValueError, TypeError) as error:
        expected = "the formats of its layers as JSON"
        raise CheckpointError(header.path, expected=expected, found=f"a damaged text ({error})", hint=DOWNLOAD_AGAIN) from error
    return formats


def _first(rules: Rules, keys: Collection[str]) -> Contents | None:
    return next((found for pattern, found in rules if any(map(re.compile(pattern).match, keys))), None)


def class_contents(config: Mapping[str, Any]) -> Contents:
    """What a network with this config of diffusers or transformers is."""
    architectures = config.get("architectures")
    name = config.get("_class_name") or (architectures[0] if isinstance(architectures, list) and architectures else None)
    family = family_of_class(str(name))
    return Contents(family, other_family=True) if family else _CLASSES.get(str(name), Contents())


def folder_contents(folder: Path) -> Contents:
    """What the folder is, by its index or config. Raises CheckpointError if the config is damaged."""
    if (folder / INDEX).is_file():
        found = class_contents(read_json(folder / INDEX))
        return found if found.other_family else Contents("a whole model", "model", True)
    config = folder / CONFIG
    return class_contents(read_json(config)) if config.is_file() else Contents()


def first_names(keys: Collection[str], count: int = 3) -> str:
    """The first of the names, for a message."""
    return ", ".join(repr(key) for key in sorted(keys)[:count]) or "no tensor"


def file_refusal(wanted: Content, path: Path, keys: Collection[str], *, found: Contents, hint: str) -> CheckpointError:
    """The error for a file, with tensors of these names, that does not hold what is `wanted`; `hint` says what to give instead.

    The error calls a file broken if it seems to be what is wanted.
    """
    name, holds = found.name, found.content
    if name is not None and found.other_family:
        return CheckpointError(path, expected=_EXPECTED[wanted], found=name, hint=found.hint)
    if name is None or holds == wanted:
        what = "a broken one, or one with an unknown layout" if holds else "a file of other tensors"
        name, holds = f"{what} ({first_names(keys)}, ...)", None
    return CheckpointError(path, expected=_EXPECTED[wanted], found=name, hint=hint, holds=holds)
