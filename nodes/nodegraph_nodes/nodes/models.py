"""Nodes that open a model or one of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal, NamedTuple

from nodegraph import Help, Range, Reads, Run, node
from nodegraph_diffusion.checkpoint import (
    Checkpoint,
    CheckpointError,
    Description,
    TextEncoders,
    UNetPart,
    VAEPart,
    pair_text_encoders,
)
from nodegraph_nodes.models.errors import file_error_message, file_errors
from nodegraph_nodes.models.find import find_model, find_text_encoders, find_unet, find_vae, notes_of
from nodegraph_nodes.models.opened_files import open_part
from nodegraph_nodes.models.text_encoders import open_text_encoder
from nodegraph_nodes.nodes.outlines import mistakes, passes
from nodegraph_nodes.types import VAE, TextEncoder, UNetModel

Kind = Annotated[
    Literal["auto", "sd1", "sd2", "sdxl", "sdxl-refiner"],
    Help("the model family; auto detects it; set it if that fails or is wrong"),
]
Prediction = Annotated[
    Literal["auto", "eps", "v"], Help("what the UNet predicts: the noise (eps) or the velocity (v); auto detects it")
]
ZeroSnr = Annotated[bool | None, Help("whether the model was trained down to pure noise; default: detected")]


class Model(NamedTuple):
    """The parts of a model."""

    unet: UNetModel
    vae: VAE
    text_encoder: TextEncoder


def _check_kind(**literals: Any) -> Iterable[str]:
    model, kind = literals.get("model"), literals.get("kind", "auto")
    if isinstance(model, Description) and kind != "auto":
        try:
            model.model(kind)
        except CheckpointError as error:
            yield file_error_message(error)


def _outline_model(**known: Any) -> Mapping[str, Any]:
    model, kind = known.get("model"), known.get("kind", "auto")
    if not isinstance(model, Description):
        return {}
    found = model.model(None if kind == "auto" else kind)
    return {"unet": found.unet, "vae": found.vae, "text_encoder": found.text}


@node(
    "LoadModel",
    check=_check_kind,
    outline=_outline_model,
    foreign_names=("CheckpointLoader", "CheckpointLoaderSimple", "DiffusersLoader", "ModelSamplingDiscrete"),
)
def load_model(
    model: Annotated[
        Description,
        Reads(find_model, by_content=True),
        Help("builtin:tiny, a file (.safetensors; .ckpt if pickles are allowed), a diffusers folder, or hf://organisation/name"),
    ],
    prediction: Prediction = "auto",
    zero_snr: ZeroSnr = None,
    kind: Kind = "auto",
    run: Run = Run(),
) -> Model:
    """Open a model: its UNet, its VAE and its text encoders.

    Each part is loaded when a node first needs it. Cached results depend on the content of the files, not on where they are: a
    model that is moved to another folder stays in the cache.
    """
    with file_errors():
        found = model.model(None if kind == "auto" else kind)
    _tell_notes(found, run)
    unet = _override_training(found.unet, prediction, zero_snr)
    return Model(
        UNetModel(open_part(unet, run.digest)), VAE(open_part(found.vae, run.digest)), open_text_encoder(found.text, run.digest)
    )


@node("LoadUNet", outline=passes(output="unet"), foreign_names=("UNETLoader",))
def load_unet(
    unet: Annotated[
        UNetPart,
        Reads(find_unet, by_content=True),
        Help("a file that holds a UNet or a whole model, a diffusers folder, or hf://organisation/name"),
    ],
    prediction: Prediction = "auto",
    zero_snr: ZeroSnr = None,
    run: Run = Run(),
) -> UNetModel:
    """Open a UNet to use instead of the model's own."""
    _tell_notes(unet, run)
    return UNetModel(open_part(_override_training(unet, prediction, zero_snr), run.digest))


def _check_latents(vae: object = None, like: object = None, **_: Any) -> list[str]:
    if isinstance(vae, VAEPart) and isinstance(like, VAEPart):
        return mistakes(partial(_require_same_latents, vae, like))
    return []


@node("LoadVAE", check=_check_latents, outline=passes(output="vae"), foreign_names=("VAELoader",))
def load_vae(
    vae: Annotated[
        VAEPart,
        Reads(find_vae, by_content=True),
        Help("a file that holds a VAE or a whole model, a diffusers folder, or hf://organisation/name"),
    ],
    like: Annotated[VAE | None, Help("the VAE that it replaces: scaling factor and native size are taken from it")] = None,
    scaling: Annotated[
        float | None,
        Range(1e-6, 1e6),
        Help(
            "the factor that latents are multiplied by, 0.13025 for SDXL; default: from 'like', a config or a whole model, "
            "otherwise 0.18215 as in Stable Diffusion 1 and 2"
        ),
    ] = None,
    run: Run = Run(),
) -> VAE:
    """Open a VAE to use instead of the model's own.

    The VAEs of SDXL and of Stable Diffusion 1 have the same shapes. For a file that holds only the VAE of SDXL, give
    `like: $model.vae` or `scaling: 0.13025`.
    """
    _tell_notes(vae, run)
    size = vae.trained_size
    if like is not None:
        _require_same_latents(vae, like.part)
        scaling, size = scaling or like.part.config.scaling_factor, like.part.sample_size
    config = vae.config if scaling is None else replace(vae.config, scaling_factor=scaling)
    return VAE(open_part(replace(vae, config=config, trained_size=size), run.digest))


def _find_texts(text_encoder: Description, text_encoder_2: Description | None, kind: Kind) -> TextEncoders:
    with file_errors():
        if text_encoder_2 is not None:
            return pair_text_encoders(text_encoder, text_encoder_2)
        return text_encoder.text_encoders(None if kind == "auto" else kind)


def _has_texts(known: Mapping[str, Any]) -> bool:
    return {"text_encoder", "text_encoder_2"} <= known.keys()


def _check_texts(**known: Any) -> list[str]:
    return mistakes(lambda: _find_texts(**known)) if _has_texts(known) else []


def _outline_texts(**known: Any) -> Mapping[str, Any]:
    return {"output": _find_texts(**known)} if _has_texts(known) else {}


@node("LoadTextEncoder", check=_check_texts, outline=_outline_texts, foreign_names=("CLIPLoader", "DualCLIPLoader"))
def load_text_encoder(
    text_encoder: Annotated[
        Description,
        Reads(find_text_encoders, by_content=True),
        Help("a file that holds text encoders or a whole model, a folder, or hf://organisation/name"),
    ],
    text_encoder_2: Annotated[
        Description | None,
        Reads(find_text_encoders, by_content=True),
        Help("SDXL's second text encoder, OpenCLIP bigG, if it is in a separate file"),
    ] = None,
    kind: Kind = "auto",
    run: Run = Run(),
) -> TextEncoder:
    """Open text encoders to use instead of the model's own."""
    found = _find_texts(text_encoder, text_encoder_2, kind)
    _tell_notes(found, run)
    return open_text_encoder(found, run.digest)


def _tell_notes(found: Checkpoint | UNetPart | VAEPart | TextEncoders, run: Run) -> None:
    """Pass on as notices what was ignored or assumed when the files were read."""
    for note in notes_of(found):
        run.notice(note)


def _override_training(unet: UNetPart, prediction: Literal["auto", "eps", "v"], zero_snr: bool | None) -> UNetPart:
    """The UNet, with what the user says about its training instead of what was detected."""
    schedule = unet.noise_schedule
    if prediction != "auto":
        schedule = replace(schedule, prediction=prediction)
    if zero_snr is not None:
        schedule = replace(schedule, zero_snr=zero_snr)
    return replace(unet, noise_schedule=schedule)


def _require_same_latents(vae: VAEPart, like: VAEPart) -> None:
    """Raise ValueError if the latents of the two have another number of channels or another factor."""
    found, expected = vae.config, like.config
    if (found.latent_channels, found.factor) != (expected.latent_channels, expected.factor):
        raise ValueError(
            f"vae: expected one that encodes {expected.factor}x{expected.factor} pixels into {expected.latent_channels} numbers, "
            f"as 'like' does, found one for {found.factor}x{found.factor} and {found.latent_channels}. Give a VAE for this model"
        )
