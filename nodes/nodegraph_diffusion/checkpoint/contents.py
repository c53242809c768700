"""What a file of tensors is, by their names alone: so that one that is given in another's place can be told by name."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from nodegraph_diffusion.checkpoint.errors import CheckpointError, Content

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIXES = ("cond_stage_model.", "conditioner.embedders.")


class Known(NamedTuple):
    """What a file is called, and what it holds: None for what cannot be loaded at all."""

    name: str
    holds: Content | None = None


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
    whole = Known("a whole model", "model")
    signs = _UNSUPPORTED + (() if parts[0] else _ADAPTERS) + (((".", whole),) if sum(parts) > 1 else _PARTS)
    return next((found for pattern, found in signs if any(re.match(pattern, key) for key in keys)), None)


def is_whole(keys: Collection[str]) -> bool:
    """Whether a file with tensors of these names has all parts of a model."""
    return all(_parts_in(keys))


def class_of(config: Mapping[str, Any]) -> Known | None:
    """What a folder is, or a file, that a config of diffusers' or of transformers' lies in; None for classes unknown."""
    architectures = config.get("architectures")
    name = config.get("_class_name") or (architectures[0] if isinstance(architectures, list) and architectures else None)
    return _CLASSES.get(str(name))


def not_a(expected: str, path: Path, keys: Collection[str], hint: str) -> CheckpointError:
    """The error for a file with tensors of these names in the place of an `expected` one; `hint` says what to give."""
    found = known(keys)
    some = ", ".join(repr(key) for key in sorted(keys)[:3]) or "no tensor"
    name = f"a file of other tensors ({some}, ...)" if found is None else found.name
    return CheckpointError(path, expected=expected, found=name, hint=hint, holds=found.holds if found else None)


def _parts_in(keys: Collection[str]) -> list[bool]:
    """Whether there are a UNet, an autoencoder and a text encoder below the prefixes that they have in a whole model."""
    return [any(key.startswith(prefix) for key in keys) for prefix in (UNET_PREFIX, VAE_PREFIX, TEXT_PREFIXES)]
