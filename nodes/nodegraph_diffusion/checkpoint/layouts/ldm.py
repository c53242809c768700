"""The names of tensors in single files of whole models, the layout of the published latent diffusion models (LDM)."""

from __future__ import annotations

from nodegraph_diffusion.checkpoint.families import Kind, Naming, Part

UNET_PREFIX = "model.diffusion_model."
VAE_PREFIX = "first_stage_model."
TEXT_PREFIXES = ("cond_stage_model.", "conditioner.embedders.")

_UNET_AND_VAE: dict[Part, str] = {"unet": UNET_PREFIX, "vae": VAE_PREFIX}
PREFIXES: dict[Kind, dict[Part, str]] = {
    "sd1": {**_UNET_AND_VAE, "text_encoder": "cond_stage_model.transformer."},
    "sd2": {**_UNET_AND_VAE, "text_encoder": "cond_stage_model.model."},
    "sdxl": {
        **_UNET_AND_VAE,
        "text_encoder": "conditioner.embedders.0.transformer.",
        "text_encoder_2": "conditioner.embedders.1.model.",
    },
    "sdxl-refiner": {**_UNET_AND_VAE, "text_encoder_2": "conditioner.embedders.0.model."},
}

UNUSED = (
    r"model_ema\..*"  # the training's moving average; the plain weights are the published model
    r"|(alphas_cumprod|alphas_cumprod_prev|betas|sqrt_.*|log_one_minus_.*|posterior_.*|lvlb_weights|logvar)"  # schedule
    r"|(first_stage_model\.)?loss\..*"  # the autoencoder's discriminator
    r"|(vision_model|visual)\..*|visual_projection\.weight"  # CLIP's other half, which sees pictures
    r"|.*\.position_ids"  # 0 to 76
    r"|(.*\.)?(logit_scale|text_projection(\.weight)?)"  # CLIP's comparison with pictures, except in SDXL's second encoder
    r"|v_pred|ztsnr|difference"  # marks: what the model predicts, what a ControlNet's file holds
)
"""A regular expression: the names of tensors that published files contain and that no network needs."""

REMOVABLE = (
    r"model_ema\..*"
    r"|(alphas_cumprod|alphas_cumprod_prev|betas|sqrt_.*|log_one_minus_.*|posterior_.*|lvlb_weights|logvar)"
    r"|(first_stage_model\.)?loss\..*"
    r"|.*\.position_ids"
)
"""A regular expression: the names of unused tensors that other programs do not need either."""

HARMLESS = (
    r"(denoiser|embedding_manager|control_model|model_ema|optimizer_states|lr_schedulers|loops|callbacks)\..*"
    r"|scale_factor|global_step|epoch"
)
"""A regular expression: the names of tensors that belong to no part of a model, in files of one part without a prefix."""

VELOCITY_MARK, ZERO_SNR_MARK = "v_pred", "ztsnr"
EDM_MARKS = ("edm_mean", "edm_std", "edm_vpred.sigma_min", "edm_vpred.sigma_max")  # of Playground 2.5 and CosXL
VELOCITY_BIAS: dict[Naming, str] = {
    "ldm": "output_blocks.11.1.transformer_blocks.0.norm1.bias",
    "diffusers": "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias",
}
"""A bias with a wide spread in models that predict velocity. The 768 model of Stable Diffusion 2 shows it in no other way."""
