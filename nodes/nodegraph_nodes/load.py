"""Nodes that read a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Literal, NamedTuple

from nodegraph import Help, Reads, Resource, node
from nodegraph.spec import under
from nodegraph_diffusion.checkpoint import Checkpoint, CheckpointError, detect
from nodegraph_diffusion.checkpoint.hub import SCHEME, fetch
from nodegraph_nodes.types import VAE, ModelFiles, TextEncoder, UNetModel

BUILTIN: Final = "builtin:"


def builtin_models() -> dict[str, Path]:
    """The models that are shipped, by what comes behind `builtin:`."""
    import nodegraph_diffusion

    return {"tiny": Path(nodegraph_diffusion.__file__).parent / "tiny"}


def find_model(text: str, base: Path) -> Resource:
    """The checkpoint that `text` names: `builtin:NAME`, `hf://ORGANISATION/NAME`, a file, or a folder. Reads headers only.

    Raises ValueError, with what was found, for anything that is no whole model of a known kind.
    """
    if text.startswith(BUILTIN):
        name, models = text.removeprefix(BUILTIN), builtin_models()
        if name not in models:
            raise ValueError(f"there is no built-in model '{name}'; there is {', '.join(BUILTIN + known for known in models)}")
        path = models[name]
    else:
        try:
            path = fetch(text) if text.startswith(SCHEME) else under(base, text)
        except CheckpointError as error:
            raise ValueError(str(error)) from error
    try:
        checkpoint = detect(path)
    except CheckpointError as error:
        raise ValueError(str(error)) from error
    if checkpoint.layout == "ldm":
        return Resource(checkpoint, {"model": path})
    return Resource(checkpoint, {file.relative_to(path).as_posix(): file for file in checkpoint.files})


class Model(NamedTuple):
    """The parts of a model."""

    unet: UNetModel
    vae: VAE
    text_encoder: TextEncoder


@node("LoadModel")
def load_model(
    model: Annotated[
        Checkpoint,
        Reads(find_model),
        Help(
            "builtin:tiny, a file (.safetensors, or .ckpt where pickles are allowed), a diffusers folder, or hf://organisation/name"
        ),
    ],
    prediction: Annotated[
        Literal["auto", "eps", "v"], Help("what the network was trained to predict, where its files do not say so")
    ] = "auto",
    zero_snr: Annotated[bool | None, Help("trained down to no signal at all; absent: what its files say")] = None,
) -> Model:
    """Open a model: its denoising network, its autoencoder and its text encoders.

    Each part is read from disk when a node needs it. The key holds the content of the files, not where they lie.
    """
    schedule = model.schedule
    if prediction != "auto":
        schedule = replace(schedule, prediction=prediction)
    if zero_snr is not None:
        schedule = replace(schedule, zero_snr=zero_snr)
    files = ModelFiles.of(replace(model, schedule=schedule))
    return Model(UNetModel(files), VAE(files), TextEncoder(files))
