"""Classes that open models."""

from __future__ import annotations

import dataclasses
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Clip, Model, Value
from nodegraph_comfyui.classes.node_class import NodeClass

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


def _vae(call: Call) -> Value:
    return Value("VAE", call.add("LoadVAE", "vae", vae=call.file("vae_name", "vae", "vae")))


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


def _lora(call: Call) -> tuple[Model, Clip]:
    model, clip = call.get("model", Model), call.get("clip", Clip)
    unet, encoder = _adapted(call, model, clip.encoder, call["strength_clip"])
    return dataclasses.replace(model, unet=unet, loader=None), dataclasses.replace(clip, encoder=encoder)


def _lora_of_model(call: Call) -> Model:
    model = call.get("model", Model)
    others = (value.encoder for value in call.converted.values.values() if isinstance(value, Clip))
    encoder = model.encoder or next(others, None)
    if encoder is None:
        raise RefusedError("it needs text encoders here, and the graph has none. Add a loader of them in ComfyUI")
    unet, _ = _adapted(call, model, encoder, 0.0)
    return dataclasses.replace(model, unet=unet, loader=None)


def _adapted(call: Call, model: Model, encoder: Ref, strength_text: Any) -> tuple[Ref, Ref]:
    loaded = call.add(
        "LoadLora",
        "lora",
        unet=model.unet,
        text_encoder=encoder,
        file=call.file("lora_name", "loras", "lora"),
        strength_unet=call["strength_model"],
        strength_text=strength_text,
    )
    return Ref(loaded.step, "unet"), Ref(loaded.step, "text_encoder")


def _control_net(call: Call) -> Value:
    return Value(
        "CONTROL_NET", call.add("LoadControlNet", "control_net", file=call.file("control_net_name", "controlnet", "control_net"))
    )


def _diff_control_net(call: Call) -> Value:
    file, model = call.file("control_net_name", "controlnet", "control_net"), call.get("model", Model)
    return Value("CONTROL_NET", call.add("LoadControlNet", "control_net", file=file, unet=model.unet))


def _upscaler(call: Call) -> Value:
    return Value("UPSCALE_MODEL", call.add("LoadUpscaler", "upscaler", file=call.file("model_name", "upscale_models", "upscaler")))


def _image_encoder(call: Call) -> Value:
    file = call.file("clip_name", "clip_vision", "image_encoder")
    return Value("CLIP_VISION", call.add("LoadImageEncoder", "image_encoder", file=file))


def _gligen(call: Call) -> Value:
    return Value("GLIGEN", call.add("LoadGligen", "gligen", file=call.file("gligen_name", "gligen", "gligen")))


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
    NodeClass(
        name="VAELoader",
        title="Load VAE",
        inputs="vae_name:COMBO",
        outputs=("VAE",),
        convert=_vae,
        here=("LoadVAE",),
        renamed="vae_name: `vae`",
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
    NodeClass(
        name="LoraLoader",
        title="Load LoRA",
        inputs="model:MODEL clip:CLIP lora_name:COMBO strength_model:FLOAT=1.0 strength_clip:FLOAT=1.0",
        outputs=("MODEL", "CLIP"),
        convert=_lora,
        here=("LoadLora",),
        renamed="lora_name: `file`; strength_model: `strength_unet`; strength_clip: `strength_text`",
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
    NodeClass(
        name="ControlNetLoader",
        title="Load ControlNet Model",
        inputs="control_net_name:COMBO",
        outputs=("CONTROL_NET",),
        convert=_control_net,
        here=("LoadControlNet",),
        renamed="control_net_name: `file`",
        differs=(
            'also T2I-Adapters for Stable Diffusion 1. For a file called "shuffle", ComfyUI averages the residuals: write '
            "`global_pool: true`"
        ),
        is_loader=True,
    ),
    NodeClass(
        name="DiffControlNetLoader",
        title="Load ControlNet Model (diff)",
        inputs="model:MODEL control_net_name:COMBO",
        outputs=("CONTROL_NET",),
        convert=_diff_control_net,
        here=("LoadControlNet",),
        renamed="control_net_name: `file`; model: `unet`",
    ),
    NodeClass(
        name="GLIGENLoader",
        title="GLIGENLoader",
        inputs="gligen_name:COMBO",
        outputs=("GLIGEN",),
        convert=_gligen,
        here=("LoadGligen",),
        renamed="gligen_name: `file`",
        is_loader=True,
    ),
    NodeClass(
        name="CLIPVisionLoader",
        title="Load CLIP Vision",
        inputs="clip_name:COMBO",
        outputs=("CLIP_VISION",),
        convert=_image_encoder,
        here=("LoadImageEncoder",),
        renamed="clip_name: `file`",
        differs="CLIP's; SigLIP and others are not read",
        is_loader=True,
    ),
    NodeClass(
        name="UpscaleModelLoader",
        title="Load Upscale Model",
        inputs="model_name:COMBO",
        outputs=("UPSCALE_MODEL",),
        convert=_upscaler,
        here=("LoadUpscaler",),
        renamed="model_name: `file`",
        differs="ESRGAN, BSRGAN, Real-ESRGAN; others with the extra `upscale`; a `.pth` needs `--allow-pickles`",
        is_loader=True,
    ),
)
