"""Classes that open models."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Clip, Model, Value
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.classes.renaming import renamed

_PREDICTIONS: Final = {"eps": "eps", "v_prediction": "v"}
_CLIP_TYPES: Final = {"stable_diffusion": None, "sdxl": "sdxl"}


def _checkpoint(call: Call) -> tuple[Model, Clip, Value]:
    return _opened(call, {"model": call.file("ckpt_name", "checkpoints", "model")})


def _opened(call: Call, inputs: dict[str, Any]) -> tuple[Model, Clip, Value]:
    loaded = call.add("LoadModel", "checkpoint", **inputs)
    unet, vae, encoder = (Ref(loaded.step, port) for port in ("unet", "vae", "text_encoder"))
    return Model(unet=unet, vae=vae, encoder=encoder, loader=("LoadModel", inputs)), Clip(encoder=encoder), Value("VAE", vae)


def _diffusers(call: Call) -> tuple[Model, Clip, Value]:
    return _opened(call, {"model": call.file("model_path", "diffusers", "model")})


def _unet(call: Call) -> Model:
    inputs = {"unet": call.file("unet_name", "diffusion_models", "unet")}
    return Model(unet=call.add("LoadUNet", "unet", **inputs), loader=("LoadUNet", inputs))


def _clip(call: Call) -> Clip:
    kind = call.choice("type", _CLIP_TYPES)
    return Clip(
        encoder=call.add("LoadTextEncoder", "text_encoder", text_encoder=call.file("clip_name", "text_encoders", "clip"), kind=kind)
    )


def _dual_clip(call: Call) -> Clip:
    files = (call.file(f"clip_name{k}", "text_encoders", f"clip_{k}") for k in (1, 2))
    call.choice("type", {"sdxl": "sdxl"})
    first, second = files
    return Clip(encoder=call.add("LoadTextEncoder", "text_encoder", text_encoder=first, text_encoder_2=second, kind="sdxl"))


def _lora_of_model(call: Call) -> Model:
    model = call.get("model", Model)
    others = (value.encoder for value in call.converted.values.values() if isinstance(value, Clip))
    encoder = model.encoder or next(others, None)
    if encoder is None:
        raise RefusedError("it needs text encoders here, and the graph has none. Add a loader of them in ComfyUI")
    file, strength = call.file("lora_name", "loras", "lora"), call["strength_model"]
    links = {"unet": model.unet, "text_encoder": encoder}
    loaded = call.add("LoadLora", "lora", **links, file=file, strength_unet=strength, strength_text=0.0)
    return dataclasses.replace(model, unet=Ref(loaded.step, "unet"), loader=None)


def _discrete(call: Call) -> Model:
    model, prediction = call.get("model", Model), call.choice("sampling", _PREDICTIONS)
    if model.loader is None:
        raise RefusedError("it changes a model that was already changed. Move it right behind the loader in ComfyUI")
    type, inputs = model.loader
    loaded = call.add(type, "checkpoint", **inputs, prediction=prediction, zero_snr=bool(call["zsnr"]))
    return dataclasses.replace(model, unet=Ref(loaded.step, "unet") if type == "LoadModel" else loaded, loader=None)


CLASSES: Final = (
    NodeClass(
        name="CheckpointLoaderSimple",
        title="Load Checkpoint",
        inputs="ckpt_name:COMBO",
        outputs=("MODEL", "CLIP", "VAE"),
        convert=_checkpoint,
        here=("LoadModel",),
        renamed="ckpt_name: `model`, a name or path",
        differs=(
            "names are looked up in the [folders of your models](models.md#your-models). Results depend on the content of the "
            "file. A config is not needed"
        ),
        is_loader=True,
    ),
    NodeClass(
        name="CheckpointLoader",
        title="Load Checkpoint With Config (DEPRECATED)",
        inputs="config_name:COMBO ckpt_name:COMBO",
        outputs=("MODEL", "CLIP", "VAE"),
        convert=_checkpoint,
        here=("LoadModel",),
        renamed="ckpt_name: `model`",
        differs="a config is not needed",
        is_loader=True,
    ),
    NodeClass(
        name="DiffusersLoader",
        title="DiffusersLoader",
        inputs="model_path:COMBO",
        outputs=("MODEL", "CLIP", "VAE"),
        convert=_diffusers,
        here=("LoadModel",),
        renamed="model_path: `model`",
        is_loader=True,
    ),
    renamed(
        "VAELoader",
        "Load VAE",
        "vae_name:COMBO@vae>vae",
        "LoadVAE vae VAE",
        differs="use `like: $model.vae` for SDXL, since VAE files do not contain the scale",
        is_loader=True,
    ),
    NodeClass(
        name="UNETLoader",
        title="Load Diffusion Model",
        inputs="unet_name:COMBO weight_dtype:COMBO=default",
        outputs=("MODEL",),
        convert=_unet,
        here=("LoadUNet",),
        renamed="unet_name: `unet`",
        differs="weight_dtype is `--dtype`, for the whole run",
        is_loader=True,
    ),
    NodeClass(
        name="CLIPLoader",
        title="Load CLIP",
        inputs="clip_name:COMBO type:COMBO=stable_diffusion device:COMBO=default",
        outputs=("CLIP",),
        convert=_clip,
        here=("LoadTextEncoder",),
        renamed="clip_name: `text_encoder`; type: `kind`",
        is_loader=True,
    ),
    NodeClass(
        name="DualCLIPLoader",
        title="DualCLIPLoader",
        inputs="clip_name1:COMBO clip_name2:COMBO type:COMBO=sdxl device:COMBO=default",
        outputs=("CLIP",),
        convert=_dual_clip,
        here=("LoadTextEncoder",),
        renamed="clip_name1, clip_name2: `text_encoder`, `text_encoder_2`; type: `kind`",
        is_loader=True,
    ),
    NodeClass(
        name="ModelSamplingDiscrete",
        title="ModelSamplingDiscrete",
        inputs="model:MODEL sampling:COMBO=eps zsnr:BOOLEAN=false",
        outputs=("MODEL",),
        convert=_discrete,
        here=("LoadModel",),
        renamed="sampling: `prediction`; zsnr: `zero_snr`",
        differs="inputs of `LoadModel`. `lcm` is only a sampler; `x0` is not available",
    ),
    renamed(
        "LoraLoader",
        "Load LoRA",
        "model:MODEL>unet clip:CLIP>text_encoder lora_name:COMBO@loras>file strength_model:FLOAT=1.0>strength_unet "
        "strength_clip:FLOAT=1.0>strength_text",
        "LoadLora lora unet:MODEL text_encoder:CLIP",
    ),
    NodeClass(
        name="LoraLoaderModelOnly",
        title="LoraLoaderModelOnly",
        inputs="model:MODEL lora_name:COMBO strength_model:FLOAT=1.0",
        outputs=("MODEL",),
        convert=_lora_of_model,
        here=("LoadLora",),
        renamed="lora_name: `file`; strength_model: `strength_unet`",
        differs="`strength_text` is 0",
    ),
    renamed(
        "ControlNetLoader",
        "Load ControlNet Model",
        "control_net_name:COMBO@controlnet>file",
        "LoadControlNet control_net CONTROL_NET",
        differs=(
            'also T2I-Adapters for Stable Diffusion 1. For a file called "shuffle", ComfyUI averages the residuals: write '
            "`global_pool: true`"
        ),
        is_loader=True,
    ),
    renamed(
        "DiffControlNetLoader",
        "Load ControlNet Model (diff)",
        "model:MODEL>unet control_net_name:COMBO@controlnet>file",
        "LoadControlNet control_net CONTROL_NET",
    ),
    renamed(
        "GLIGENLoader",
        "GLIGENLoader",
        "gligen_name:COMBO@gligen>file",
        "LoadGligen gligen GLIGEN",
        is_loader=True,
    ),
    renamed(
        "CLIPVisionLoader",
        "Load CLIP Vision",
        "clip_name:COMBO@clip_vision>file",
        "LoadImageEncoder image_encoder CLIP_VISION",
        differs="CLIP's; SigLIP and others are not read",
        is_loader=True,
    ),
    renamed(
        "UpscaleModelLoader",
        "Load Upscale Model",
        "model_name:COMBO@upscale_models>file",
        "LoadUpscaler upscaler UPSCALE_MODEL",
        differs="ESRGAN, BSRGAN, Real-ESRGAN; others with the extra `upscale`; a `.pth` needs `--allow-pickles`",
        is_loader=True,
    ),
)
