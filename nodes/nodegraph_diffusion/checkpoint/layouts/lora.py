"""The names of a LoRA file's tensors: the network and module that each one changes, and its role in the formula.

Trainers agree on the formulas but not on the names. A name has a prefix for the network, the module's name, joined by dots or
underscores, and an ending for the role:

    lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight       kohya
    lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight                 kohya, the published names
    unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight               PEFT, diffusers since 0.22
    unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight  diffusers before
    text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight     diffusers before
"""

from __future__ import annotations

import re
from typing import NamedTuple

from nodegraph_diffusion.checkpoint.families import Part

_BEFORE = r"\.lora_linear_layer|[._]lora"  # the word before up and down in diffusers

_LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
_LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
_ENDINGS = {
    "up": rf"(?:\.lora_up|\.lora_B(?:\.\w+)?|(?:{_BEFORE})\.up)\.weight",
    "down": rf"(?:\.lora_down|\.lora_A(?:\.\w+)?|(?:{_BEFORE})\.down)\.weight",
    "mid": r"\.lora_mid\.weight",
    "alpha": rf"(?:{_BEFORE})?\.alpha",
    "dora_scale": r"\.dora_scale",
    "magnitude": r"\.lora_magnitude_vector(?:\.\w+)*",
    "bias": r"(?:\.diff_b|\.b_norm)",
    "up_bias": r"(?:\.lora_up|\.lora_B(?:\.\w+)?)\.bias",
    "diff": r"\.(?:diff|w_norm)",
    **{role: rf"\.{role}" for role in (*_LOHA, *_LOKR)},
}
_ENDING = f"(?:{'|'.join(f'(?P<{role}>{pattern})' for role, pattern in _ENDINGS.items())})$"

_WITHOUT_LORA = ("alpha", "dora_scale", "diff", "diff_b", "w_norm", "b_norm", *_LOHA, *_LOKR)
_OTHER_ENDINGS = tuple(f".{ending}" for ending in _WITHOUT_LORA)  # of names that do not contain "lora"

_PREFIXES: tuple[tuple[str, Part], ...] = (
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("lycoris_", "unet"),
    ("unet.", "unet"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("model.diffusion_model.", "unet"),
    ("diffusion_model.", "unet"),
)
_WRAPPER = "base_model.model."  # PEFT's name for the network that it adapts
_TEXT = r"(?:text_model[._])?(?:encoder[._]layers|embeddings|final_layer_norm)[._]"
_PROCESSOR = r"\.processor(?=\.)"
_TEXT_ATTENTION = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


class LoraName(NamedTuple):
    """What a tensor changes: the part of the model and its module, joined by underscores; and the tensor's role.

    `written` is the module as the file writes it.
    """

    part: Part
    module: str
    role: str
    written: str


def parse_name(key: str) -> LoraName | None:
    """The parsed name of the tensor `key`; None if no trainer names tensors like that."""
    if not ("lora" in key or key.endswith(_OTHER_ENDINGS)):
        return None  # most tensors of whole models; this is faster than the pattern
    ending = re.search(_ENDING, key)
    if ending is None or ending.lastgroup is None:
        return None
    module = key[: ending.start()].removeprefix(_WRAPPER)
    part: Part | None = None
    for prefix, meant in _PREFIXES:
        if module.startswith(prefix):
            part, module = meant, module.removeprefix(prefix).removeprefix(_WRAPPER)
            break
    if part is None:
        part = "text_encoder" if re.match(_TEXT, module) else "unet"
    return LoraName(part, flat(_modern(part, re.sub(_PROCESSOR, "", module))), ending.lastgroup, module)


def flat(module: str) -> str:
    """A module's dotted name as kohya writes it. The optional `text_model.` before it in a text encoder is left out."""
    return module.replace(".", "_").removeprefix("text_model_")


def _modern(part: Part, module: str) -> str:
    """The present name of a module that diffusers' attention processors of 2023 adapted."""
    head, dot, last = module.rpartition(".")
    if part == "unet":
        return f"{module}.0" if last == "to_out" else module
    return f"{head}{dot}{_TEXT_ATTENTION.get(last, last)}"
