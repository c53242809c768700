"""Nodes that read a model, or a part of one that lies alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from nodegraph import Help, Range, Reads, Resource, node
from nodegraph.node_types.spec import under
from nodegraph_diffusion.checkpoint import (
    Checkpoint,
    CheckpointError,
    Description,
    TextEncoders,
    UNetPart,
    VAEPart,
    describe,
    pair_text_encoders,
)
from nodegraph_diffusion.checkpoint.files.hub import SCHEME, fetch
from nodegraph_nodes.models.errors import refusal
from nodegraph_nodes.types import VAE, TextEncoder, UNetModel

Found = Checkpoint | UNetPart | VAEPart | TextEncoders
Kind = Annotated[
    Literal["auto", "sd1", "sd2", "sdxl", "sdxl-refiner"],
    Help("the family to read it as, where its files do not say or say it wrong"),
]
Prediction = Annotated[Literal["auto", "eps", "v"], Help("what the network was trained to predict, where its files do not say so")]
ZeroSnr = Annotated[bool | None, Help("trained down to no signal at all; absent: what its files say")]

BUILTIN: Final = "builtin:"


def builtin_models() -> dict[str, Path]:
    """The models that are shipped, by what comes behind `builtin:`."""
    import nodegraph_diffusion

    return {"tiny": Path(nodegraph_diffusion.__file__).parent / "tiny"}


def located(text: str, base: Path) -> Path:
    """The file or folder that `text` names: `builtin:NAME`, `hf://ORGANISATION/NAME`, or a path. Raises ValueError."""
    if text.startswith(BUILTIN):
        name, models = text.removeprefix(BUILTIN), builtin_models()
        if name not in models:
            raise ValueError(f"there is no built-in model '{name}'; there is {', '.join(BUILTIN + known for known in models)}")
        return models[name]
    try:
        return fetch(text) if text.startswith(SCHEME) else under(base, text)
    except CheckpointError as error:
        raise refusal(error) from error


def resource(found: Found) -> Resource:
    """A model or a part of one, with its files by names that do not depend on where they lie."""
    if found.path.is_dir():
        return Resource(found, {_below(file, found.path): file for file in found.files})
    return Resource(found, {"model" if file == found.path else file.name: file for file in found.files})


def _below(file: Path, folder: Path) -> str:
    """The file's name from the folder, or from the one around it, where the folder is of a part and the file of its model."""
    inside = file.is_relative_to(folder)
    return file.relative_to(folder).as_posix() if inside else f"../{file.relative_to(folder.parent).as_posix()}"


def _finder(part: Callable[[Description], Found], *, whole: bool = False) -> Callable[[str, Path], Resource]:
    def find(text: str, base: Path) -> Resource:
        """The `part` of the file or folder that `text` names; its whole description if `whole`. Raises ValueError for others."""
        try:
            description = describe(located(text, base))
            found = part(description)
        except CheckpointError as error:
            raise refusal(error) from error
        files = resource(found).files
        return Resource(description if whole else found, files)

    return find


find_model = _finder(Description.model, whole=True)
find_unet = _finder(Description.unet)
find_vae = _finder(Description.vae)
find_text_encoders = _finder(Description.text_encoders, whole=True)


class Model(NamedTuple):
    """The parts of a model."""

    unet: UNetModel
    vae: VAE
    text_encoder: TextEncoder


def _can_be_read(**given: Any) -> Iterable[str]:
    model, kind = given.get("model"), given.get("kind", "auto")
    if isinstance(model, Description) and kind != "auto":
        try:
            model.model(kind)
        except CheckpointError as error:
            yield str(refusal(error))


@node(
    "LoadModel",
    check=_can_be_read,
    elsewhere=("CheckpointLoader", "CheckpointLoaderSimple", "DiffusersLoader", "ModelSamplingDiscrete"),
)
def load_model(
    model: Annotated[
        Description,
        Reads(find_model),
        Help(
            "builtin:tiny, a file (.safetensors, or .ckpt where pickles are allowed), a diffusers folder, or hf://organisation/name"
        ),
    ],
    prediction: Prediction = "auto",
    zero_snr: ZeroSnr = None,
    kind: Kind = "auto",
) -> Model:
    """Open a model: its denoising network, its autoencoder and its text encoders.

    Each part is read from disk when a node needs it. The key holds the content of the files, not where they lie.
    """
    try:
        found = model.model(None if kind == "auto" else kind)
    except CheckpointError as error:
        raise refusal(error) from error
    return Model(UNetModel.of(_trained(found.unet, prediction, zero_snr)), VAE.of(found.vae), TextEncoder.of(found.text))


@node("LoadUNet", elsewhere=("UNETLoader",))
def load_unet(
    unet: Annotated[
        UNetPart,
        Reads(find_unet),
        Help("a file with a UNet, alone or in a whole model; its diffusers folder; hf://organisation/name"),
    ],
    prediction: Prediction = "auto",
    zero_snr: ZeroSnr = None,
) -> UNetModel:
    """Open a denoising network alone, in the place of a model's own."""
    return UNetModel.of(_trained(unet, prediction, zero_snr))


@node("LoadVAE", elsewhere=("VAELoader",))
def load_vae(
    vae: Annotated[
        VAEPart,
        Reads(find_vae),
        Help("a file with an autoencoder, alone or in a whole model; its diffusers folder; hf://organisation/name"),
    ],
    like: Annotated[VAE | None, Help("the autoencoder that it replaces: scaling factor and native size are taken from it")] = None,
    scaling: Annotated[
        float | None,
        Range(1e-6, 1e6),
        Help(
            "what latents are multiplied by; absent: that of 'like', or what a config or a whole model says, or else 0.18215, as "
            "for Stable Diffusion 1 and 2; SDXL's is 0.13025"
        ),
    ] = None,
) -> VAE:
    """Open an autoencoder alone, in the place of a model's own.

    Shapes do not tell SDXL's from that of Stable Diffusion 1: give a file of it `like: $model.vae`, or `scaling: 0.13025`.
    """
    size = vae.trained_size
    if like is not None:
        ours, theirs = vae.config, like.part.config
        if (ours.latent_channels, ours.factor) != (theirs.latent_channels, theirs.factor):
            raise ValueError(
                f"vae: expected one that encodes {theirs.factor}x{theirs.factor} pixels into {theirs.latent_channels} numbers, as "
                f"'like' does, found one for {ours.factor}x{ours.factor} and {ours.latent_channels}. Give one for this model"
            )
        scaling, size = scaling or theirs.scaling_factor, like.part.sample_size
    config = vae.config if scaling is None else replace(vae.config, scaling_factor=scaling)
    return VAE.of(replace(vae, config=config, trained_size=size))


@node("LoadTextEncoder", elsewhere=("CLIPLoader", "DualCLIPLoader"))
def load_text_encoder(
    text_encoder: Annotated[
        Description,
        Reads(find_text_encoders),
        Help("a file with text encoders, alone or in a whole model; a folder of one; hf://organisation/name"),
    ],
    text_encoder_2: Annotated[
        Description | None, Reads(find_text_encoders), Help("SDXL's second, OpenCLIP's bigG, where the two lie in a file each")
    ] = None,
    kind: Kind = "auto",
) -> TextEncoder:
    """Open text encoders alone, in the place of a model's own."""
    try:
        if text_encoder_2 is not None:
            return TextEncoder.of(pair_text_encoders(text_encoder, text_encoder_2))
        return TextEncoder.of(text_encoder.text_encoders(None if kind == "auto" else kind))
    except CheckpointError as error:
        raise refusal(error) from error


def _trained(unet: UNetPart, prediction: Literal["auto", "eps", "v"], zero_snr: bool | None) -> UNetPart:
    """The network with what it is said to have been trained for."""
    schedule = unet.schedule
    if prediction != "auto":
        schedule = replace(schedule, prediction=prediction)
    if zero_snr is not None:
        schedule = replace(schedule, zero_snr=zero_snr)
    return replace(unet, schedule=schedule)
