"""The names of an adapter file's tensors: the network and module that each one changes, and its role in the formula.

Trainers agree on the formulas but not on the names. A name has a prefix for the network, the module's name, joined by dots or
underscores, and an ending for the role:

    lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn1_to_q.lora_down.weight       kohya
    lora_unet_input_blocks_4_1_transformer_blocks_0_attn1_to_q.lora_down.weight                 kohya, the published names
    unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q.lora_A.weight               PEFT, diffusers since 0.22
    unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.processor.to_q_lora.down.weight  diffusers before
    text_encoder.text_model.encoder.layers.0.self_attn.q_proj.lora_linear_layer.down.weight     diffusers before
    diffusion_model.input_blocks.4.1.transformer_blocks.0.attn1.to_q.lora_down.weight           ComfyUI
    text_encoders.clip_l.transformer.text_model.encoder.layers.0.self_attn.q_proj.lora_up.weight  ComfyUI
    base_model.model.conv_in.weight                                                             PEFT, a whole module
    bundle_emb.WORD.string_to_param.*                                                           an embedding, for prompts
"""

from __future__ import annotations

import re
from typing import NamedTuple

from nodegraph_diffusion.checkpoint.families import Part

_BEFORE = r"\.lora_linear_layer|[._]lora"  # the word before up and down in diffusers
_ADAPTER = r"(?:\.\w+)?"  # PEFT's name of the adapter, if it is written

_LOHA = ("hada_w1_a", "hada_w1_b", "hada_w2_a", "hada_w2_b", "hada_t1", "hada_t2")
_LOKR = ("lokr_w1", "lokr_w1_a", "lokr_w1_b", "lokr_w2", "lokr_w2_a", "lokr_w2_b", "lokr_t2")
_AS_WRITTEN = ("scalar", "dora_scale", "oft_blocks", "rescale", "on_input", "set_weight", *_LOHA, *_LOKR)
_GLORA = ("a1", "a2", "b1", "b2", "bm")
_ENDINGS = {
    "up": rf"(?:\.lora_up|\.lora_B{_ADAPTER}|(?:{_BEFORE})\.up)\.weight",
    "down": rf"(?:\.lora_down|\.lora_A{_ADAPTER}|(?:{_BEFORE})\.down)\.weight",
    "mid": r"\.lora_mid\.weight",
    "alpha": rf"(?:{_BEFORE})?\.alpha",
    "magnitude": r"\.lora_magnitude_vector(?:\.\w+)*",
    "bias": r"(?:\.diff_b|\.b_norm)",
    "up_bias": rf"(?:\.lora_up|\.lora_B{_ADAPTER})\.bias",
    "diff": r"\.(?:diff|w_norm)",
    "embedding_up": rf"\.lora_embedding_B{_ADAPTER}",
    "embedding_down": rf"\.lora_embedding_A{_ADAPTER}",
    "oft_r": rf"\.oft_R{_ADAPTER}\.weight",
    "boft_r": rf"\.boft_R{_ADAPTER}",
    "boft_s": rf"\.boft_s{_ADAPTER}",
    "ia3_l": rf"\.ia3_l{_ADAPTER}",
    **{role: rf"\.{role}\.weight" for role in _GLORA},
    **{role: rf"\.{role}" for role in _AS_WRITTEN},
}
_ENDING = f"(?:{'|'.join(f'(?P<{role}>{pattern})' for role, pattern in _ENDINGS.items())})$"
_WHOLE = r"(?:\.base_layer|\.modules_to_save(?:\.\w+)?)?\.(?P<kind>weight|bias)$"  # a module's own tensor, in PEFT
_FACTOR = r"\.(?:lora|oft|boft|ia3|hada|lokr|vera|vblora|hra|randlora|c3a|road|fourierft|trainable_tokens)_"
_BUNDLED = r"bundle_emb\.(?P<word>.+)\.(?:string_to_param\.\*|(?P<name>emb_params|clip_l|clip_g))"

_WITHOUT_LORA = ("alpha", "diff", "diff_b", "w_norm", "b_norm", "ia3_l", "boft_R", "boft_s", *_AS_WRITTEN)
# of names that do not contain "lora":
_OTHER_ENDINGS = (*(f".{end}" for end in _WITHOUT_LORA), *(f".{end}.weight" for end in (*_GLORA, "oft_R")))

_COMFYUI_ENCODERS: dict[str, Part] = {"clip_l": "text_encoder", "clip_h": "text_encoder", "clip_g": "text_encoder_2"}
_PREFIXES: tuple[tuple[str, Part], ...] = (
    *(
        (f"{before}{encoder}.{after}", part)
        for encoder, part in _COMFYUI_ENCODERS.items()
        for before in ("text_encoders.", "")
        for after in ("transformer.", "")
    ),
    ("lora_unet_", "unet"),
    ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"),
    ("lora_te_", "text_encoder"),
    ("lycoris_", "unet"),
    ("oft_unet_", "unet"),
    ("unet.", "unet"),
    ("text_encoder.", "text_encoder"),
    ("text_encoder_2.", "text_encoder_2"),
    ("model.diffusion_model.", "unet"),
    ("diffusion_model.", "unet"),
)
_FLAT_PREFIXES = ("lora_unet_", "lora_te1_", "lora_te2_", "lora_te_", "lycoris_", "oft_unet_")
_FOREIGN = (
    "transformer.",
    "lora_transformer_",
    "lora_te3_",
    "lora_prior_",
    "text_encoder_3.",
    "text_encoders.",
    "t5xxl.",
    "prior.",
)
_WRAPPER = "base_model.model."  # PEFT's name for the network that it adapts
_TEXT = r"(?:text_model[._])?(?:encoder[._]layers|embeddings|final_layer_norm|text_projection)(?:[._]|$)"
_UNET = (
    r"(?:down_blocks|up_blocks|mid_block|input_blocks|middle_block|output_blocks|conv_in|conv_out|conv_norm_out|time_embedding|"
    r"time_embed|add_embedding|label_emb|out)(?:[._]|$)"
)
_PROCESSOR = r"\.processor(?=\.)"
_TEXT_ATTENTION = {"to_q": "q_proj", "to_k": "k_proj", "to_v": "v_proj", "to_out": "out_proj"}


class LoraName(NamedTuple):
    """What a tensor changes: the part of the model and its module, joined by underscores; and the tensor's role.

    `part` is None if the prefix is unknown. `written` is the module as the file writes it.
    """

    part: Part | None
    module: str
    role: str
    written: str


def parse_name(key: str) -> LoraName | None:
    """The parsed name of the tensor `key`; None if its ending is not one of a kind of adapter that is supported."""
    if not ("lora" in key or _WRAPPER in key or key.endswith(_OTHER_ENDINGS) or key.startswith(_FLAT_PREFIXES)):
        return None  # most tensors of whole models; this is faster than the pattern
    ending = re.search(_ENDING, key)
    role = None if ending is None else ending.lastgroup
    if role is None:
        ending = re.search(_WHOLE, key)
        role = None if ending is None else _role_of_whole(key, ending["kind"])
    if ending is None or role is None:
        return None
    written = key[: ending.start()].removeprefix(_WRAPPER)
    part, module = _part(written)
    return LoraName(part, flat(module if part is None else _modern(part, re.sub(_PROCESSOR, "", module))), role, written)


def bundled_embedding(key: str) -> tuple[str, str] | None:
    """The word of a prompt that the tensor `key` belongs to, and the name of the tensor in a file of this word alone; or None."""
    match = re.fullmatch(_BUNDLED, key)
    return None if match is None else (match["word"], match["name"] or "emb_params")


def is_adapter_name(key: str) -> bool:
    """Whether the name begins as only trainers of adapters write it."""
    return key.startswith((*_FLAT_PREFIXES, _WRAPPER, "bundle_emb."))


def is_known_prefix(key: str) -> bool:
    """Whether the name begins as that of a tensor in Stable Diffusion, as it is or in an adapter's file."""
    return is_adapter_name(key) or _part(key)[0] is not None


def is_foreign(module: str) -> bool:
    """Whether a module's name begins as that of another family of models."""
    return module.startswith(_FOREIGN)


def flat(module: str) -> str:
    """A module's dotted name as kohya writes it. The optional `text_model.` before it in a text encoder is left out."""
    return module.replace(".", "_").removeprefix("text_model_")


def _part(written: str) -> tuple[Part | None, str]:
    """The part of a model that a module belongs to, None if that is unknown, and the module's name in it."""
    for prefix, part in _PREFIXES:
        if written.startswith(prefix):
            return part, written.removeprefix(prefix).removeprefix(_WRAPPER)
    if re.match(_TEXT, written):
        return "text_encoder", written
    return ("unet" if re.match(_UNET, written) else None), written


def _role_of_whole(key: str, kind: str) -> str | None:
    """The role of a tensor that has the name of a module's weight or bias: PEFT replaces it; LyCORIS's IA3 is called so."""
    if _WRAPPER in key:
        return None if re.search(_FACTOR, key) else f"set_{kind}"
    return "ia3_weight" if key.startswith(_FLAT_PREFIXES) and key.count(".") == 1 and kind == "weight" else None


def _modern(part: Part, module: str) -> str:
    """The present name of a module that diffusers' attention processors of 2023 adapted."""
    head, dot, last = module.rpartition(".")
    if part == "unet":
        return f"{module}.0" if last == "to_out" else module
    return f"{head}{dot}{_TEXT_ATTENTION.get(last, last)}"
