"""Models of families that we cannot run, by the names of their modules and classes, so that an error can say what a file is."""

from __future__ import annotations

from collections.abc import Collection

RUNS = "nodegraph runs Stable Diffusion 1, 2 and XL."
READS = "nodegraph reads weights of 16 and 32 bits, and of 8 bits in F8_E4M3 and F8_E5M2. Give the model in one of these."

_PREFIXES = ("model.diffusion_model.", "transformer.", "net.", "model.")

# All of these modules are at the top of a network of the family; the first entry that fits decides.
_MODULES: tuple[tuple[str, frozenset[str]], ...] = tuple(
    (family, frozenset(modules.split()))
    for family, modules in (
        ("a Chroma model", "double_blocks single_blocks distilled_guidance_layer"),
        ("a Flux model", "double_blocks"),
        ("a Flux model", "single_transformer_blocks transformer_blocks context_embedder x_embedder"),
        ("a Stable Diffusion 3 model", "joint_blocks"),
        ("a Stable Diffusion 3 model", "transformer_blocks context_embedder pos_embed time_text_embed"),
        ("a Stable Cascade model", "clip_txt_mapper"),
        ("a Stable Cascade model", "clip_txt_pooled_mapper"),
        ("a Stable Cascade model", "effnet_mapper"),
        ("a Würstchen model", "clip_mapper"),
        ("a PixArt model", "t_block y_embedder"),
        ("a PixArt model", "adaln_single caption_projection pos_embed"),
        ("a Hunyuan-DiT model", "mlp_t5"),
        ("a Wan model", "patch_embedding text_embedding time_projection"),
        ("a Wan model", "patch_embedding condition_embedder blocks"),
        ("an AuraFlow model", "double_layers cond_seq_linear"),
        ("an AuraFlow model", "joint_transformer_blocks register_tokens"),
        ("a Lumina 2 or Z-Image model", "noise_refiner context_refiner cap_embedder"),
        ("an LTX-Video model", "patchify_proj adaln_single"),
        ("a Mochi model", "t5_yproj"),
        ("a HiDream model", "double_stream_blocks single_stream_blocks"),
        ("a Qwen-Image model", "txt_norm txt_in img_in transformer_blocks"),
        ("a Sana model", "attention_y_norm"),
        ("a Sana model", "caption_norm caption_projection patch_embed"),
        ("a Kandinsky 5 model", "visual_transformer_blocks"),
        ("a model of Kandinsky, Kolors or DeepFloyd IF", "down_blocks encoder_hid_proj"),
        ("a Stable unCLIP model", "noise_augmentor"),
        ("AnimateDiff's motion modules", "motion_modules"),
        ("an IP-Adapter", "ip_adapter image_proj"),
        ("a T5 text encoder", "shared encoder"),
        ("an upscaler (ESRGAN)", "conv_first body conv_last"),
        ("an upscaler (ESRGAN)", "conv_first RRDB_trunk"),
    )
)
# Any name that contains one of these.
_SIGNS = (
    ("txt_in.individual_token_refiner.", "a HunyuanVideo model"),
    (".time_stack.", "a Stable Video Diffusion model"),
    (".temporal_transformer_blocks.", "a Stable Video Diffusion model"),
    ("diffusion_model.label_emb.weight", "Stable Diffusion's x4 upscaler"),
)
_FORMATS = (
    (".quant_state.bitsandbytes__nf4", "a model in NF4 (bitsandbytes), a format of four bits"),
    (".quant_state.bitsandbytes__fp4", "a model in FP4 (bitsandbytes), a format of four bits"),
    (".quant_map", "a model in a format of bitsandbytes"),
    (".qweight", "a model in a format of GPTQ or AWQ"),
)
# How the names of classes of diffusers begin.
_CLASSES = (
    ("StableDiffusion3", "a Stable Diffusion 3 model"),
    ("SD3", "a Stable Diffusion 3 model"),
    ("StableDiffusionUpscale", "Stable Diffusion's x4 upscaler"),
    ("StableCascade", "a Stable Cascade model"),
    ("StableUnCLIP", "a Stable unCLIP model"),
    ("StableVideo", "a Stable Video Diffusion model"),
    ("UNetSpatioTemporal", "a Stable Video Diffusion model"),
    ("AnimateDiff", "an AnimateDiff model"),
    ("AuraFlow", "an AuraFlow model"),
    ("Chroma", "a Chroma model"),
    ("CogVideoX", "a CogVideoX model"),
    ("CogView", "a CogView model"),
    ("Cosmos", "a Cosmos model"),
    ("Flux", "a Flux model"),
    ("HiDream", "a HiDream model"),
    ("HunyuanDiT", "a Hunyuan-DiT model"),
    ("Hunyuan", "a Hunyuan model"),
    ("IFPipeline", "a DeepFloyd IF model"),
    ("Kandinsky", "a Kandinsky model"),
    ("Kolors", "a Kolors model"),
    ("LTX", "an LTX-Video model"),
    ("Lumina", "a Lumina model"),
    ("Mochi", "a Mochi model"),
    ("PixArt", "a PixArt model"),
    ("QwenImage", "a Qwen-Image model"),
    ("Sana", "a Sana model"),
    ("T5", "a T5 text encoder"),
    ("UnCLIP", "an unCLIP model"),
    ("Wan", "a Wan model"),
    ("Wuerstchen", "a Würstchen model"),
    ("ZImage", "a Z-Image model"),
)


def family_of_names(keys: Collection[str]) -> str | None:
    """The family that a file with tensors of these names belongs to, if it is one that we cannot run; None for other files."""
    tops = set()
    for key in keys:
        prefix = next((prefix for prefix in _PREFIXES if key.startswith(prefix)), "")
        start = len(prefix)
        end = key.find(".", start)
        tops.add(key[start:] if end < 0 else key[start:end])
    found = next((name for sign, name in _SIGNS if any(sign in key for key in keys)), None)
    return found or next((family for family, modules in _MODULES if modules <= tops), None)


def format_of_names(keys: Collection[str]) -> str | None:
    """What a file with tensors of these names is, if its weights are in a format that cannot be read; None for other files."""
    return next((name for sign, name in _FORMATS if any(sign in key for key in keys)), None)


def family_of_class(name: str) -> str | None:
    """The family of a class of diffusers, if it is one that we cannot run; None for other classes."""
    return next((family for start, family in _CLASSES if name.startswith(start)), None)
