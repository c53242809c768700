"""What a file of tensors is, by their names alone: so that one that is given in another's place can be told by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nodegraph_diffusion.checkpoint.errors import CheckpointError, Content
from nodegraph_diffusion.checkpoint.files.json_file import read_json

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIXES = ("cond_stage_model.", "conditioner.embedders.")


class Known(NamedTuple):
    """What a file is called, and what it holds: None for what cannot be loaded at all."""

    name: str
    holds: Content | None = None


_EXPECTED: dict[Content, str] = {
    "model": "a Stable Diffusion model",
    "unet": "a UNet",
    "vae": "an autoencoder (VAE)",
    "text_encoder": "a text encoder",
    "lora": "a LoRA, LoHa, LoKr or DoRA",
    "controlnet": "a ControlNet",
    "embedding": "vectors for a prompt's word",
}
_WITHOUT = ("a UNet", "an autoencoder", "a text encoder")

# The first of these that one of a file's keys begins with says what it is.
_UNSUPPORTED = (
    (r"(model\.diffusion_model\.)?joint_blocks\.", Known("a Stable Diffusion 3 model")),
    (r"(model\.diffusion_model\.)?double_blocks\.", Known("a Flux model")),
)
_ADAPTERS = (
    (r".*(lora_|\.lora\.|\.hada_|\.lokr_)", Known("a LoRA", "lora")),
    (r"(control_model|controlnet_cond_embedding|input_hint_block|zero_convs)\.", Known("a ControlNet", "controlnet")),
    (r"(emb_params|clip_[lg]$|string_to_param)", Known("a textual inversion embedding", "embedding")),
)
_IN_MODEL = r"((cond_stage_model|conditioner\.embedders\.\d)\.(transformer|model)\.)?"
_PARTS = (
    (r"(model\.diffusion_model\.)?(input_blocks|middle_block|output_blocks)\.", Known("a UNet alone", "unet")),
    (r"(down_blocks|mid_block|up_blocks)\.", Known("a UNet alone, under diffusers' names", "unet")),
    (
        r"(first_stage_model\.)?(encoder|decoder)\.(down|mid|up|conv_in|conv_out|down_blocks|mid_block|up_blocks)\.",
        Known("an autoencoder (VAE) alone", "vae"),
    ),
    (
        _IN_MODEL + r"(text_model\.)?(encoder\.layers|embeddings|transformer\.resblocks|token_embedding)\.",
        Known("a text encoder alone", "text_encoder"),
    ),
)
_CLASSES: dict[str, Known] = {
    "UNet2DConditionModel": Known("a UNet alone", "unet"),
    "AutoencoderKL": Known("an autoencoder (VAE) alone", "vae"),
    "CLIPTextModel": Known("a text encoder alone", "text_encoder"),
    "CLIPTextModelWithProjection": Known("a text encoder alone", "text_encoder"),
    "ControlNetModel": Known("a ControlNet", "controlnet"),
}


def known(keys: Collection[str]) -> Known | None:
    """What a file with tensors of these names is; None where nothing is known by them."""
    parts = _parts_in(keys)
    several = Known("a whole model", "model") if all(parts) else Known(f"a model without {_WITHOUT[parts.index(False)]}")
    signs = _UNSUPPORTED + (() if parts[0] else _ADAPTERS) + (((".", several),) if sum(parts) > 1 else _PARTS)
    return next((found for pattern, found in signs if any(re.match(pattern, key) for key in keys)), None)


def is_whole(keys: Collection[str]) -> bool:
    """Whether a file with tensors of these names has all parts of a model."""
    return all(_parts_in(keys))


def class_of(config: Mapping[str, Any]) -> Known | None:
    """What a folder is, or a file, that a config of diffusers' or of transformers' lies in; None for classes unknown."""
    architectures = config.get("architectures")
    name = config.get("_class_name") or (architectures[0] if isinstance(architectures, list) and architectures else None)
    return _CLASSES.get(str(name))


def folder_class(folder: Path) -> Known | None:
    """What `folder` is, by the config in it; None where there is none, or of a class unknown. CheckpointError if it is damaged."""
    if (folder / "model_index.json").is_file():
        return Known("a whole model", "model")
    config = folder / "config.json"
    return class_of(read_json(config)) if config.is_file() else None


def not_a(wanted: Content, path: Path, keys: Collection[str], hint: str) -> CheckpointError:
    """The error for a file with tensors of these names in the place of what is `wanted`; `hint` says what to give.

    It says what the file is; of one that has names of what is wanted, that it is broken.
    """
    found = known(keys)
    some = ", ".join(repr(key) for key in sorted(keys)[:3]) or "no tensor"
    name = f"a file of other tensors ({some}, ...)" if found is None else found.name
    holds = found.holds if found else None
    if holds == wanted:
        name, holds = f"a broken one, or one of a layout that is unknown here ({some}, ...)", None
    return CheckpointError(path, expected=_EXPECTED[wanted], found=name, hint=hint, holds=holds)


def _parts_in(keys: Collection[str]) -> list[bool]:
    """Whether there are a UNet, an autoencoder and a text encoder below the prefixes that they have in a whole model."""
    return [any(key.startswith(prefix) for key in keys) for prefix in (UNET_PREFIX, VAE_PREFIX, TEXT_PREFIXES)]
