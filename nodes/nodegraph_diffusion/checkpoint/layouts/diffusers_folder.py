"""The names of files, folders and classes in a model folder that diffusers writes."""

from __future__ import annotations

from nodegraph_diffusion.checkpoint.families import Part

INDEX = "model_index.json"
CONFIG = "config.json"
SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
CLASSES: dict[Part, str] = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "text_encoder_2": "CLIPTextModelWithProjection",
}
WEIGHTS: dict[Part, str] = {
    "unet": "diffusion_pytorch_model.safetensors",
    "vae": "diffusion_pytorch_model.safetensors",
    "text_encoder": "model.safetensors",
    "text_encoder_2": "model.safetensors",
}
PICKLED = {"diffusion_pytorch_model.safetensors": "diffusion_pytorch_model.bin", "model.safetensors": "pytorch_model.bin"}
"""The names of the weights when they are pickles."""

VARIANTS = (".fp16", ".bf16", ".fp32", ".ema", ".non_ema")
"""The endings of names of weights in another dtype, or with or without a moving average, in the order in which they are taken."""

TOKENIZERS: dict[Part, str] = {"text_encoder": "tokenizer", "text_encoder_2": "tokenizer_2"}
