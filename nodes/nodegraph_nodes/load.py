"""Nodes that read a model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, NamedTuple

from nodegraph import Help, Reads, Resource, node
from nodegraph.spec import under
from nodegraph_diffusion.checkpoint import Checkpoint, CheckpointError, detect
from nodegraph_nodes.types import VAE, ModelFiles, TextEncoder, UNetModel

BUILTIN: Final = "builtin:"


def builtin_models() -> dict[str, Path]:
    """The models that are shipped, by what comes behind `builtin:`."""
    import nodegraph_diffusion

    return {"tiny": Path(nodegraph_diffusion.__file__).parent / "tiny"}


def find_model(text: str, base: Path) -> Resource:
    """The checkpoint that `text` names: `builtin:NAME`, a file, or a folder. Reads headers only.

    Raises ValueError, with what was found, for anything that is no whole model of a known kind.
    """
    if text.startswith(BUILTIN):
        name, models = text.removeprefix(BUILTIN), builtin_models()
        if name not in models:
            raise ValueError(f"there is no built-in model '{name}'; there is {', '.join(BUILTIN + known for known in models)}")
        path = models[name]
    else:
        path = under(base, text)
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
    model: Annotated[Checkpoint, Reads(find_model), Help("builtin:tiny, a .safetensors file, or a diffusers folder")],
) -> Model:
    """Open a model: its denoising network, its autoencoder and its text encoder.

    Each part is read from disk when a node needs it. The key holds the content of the files, not where they lie.
    """
    files = ModelFiles.of(model)
    return Model(UNetModel(files), VAE(files), TextEncoder(files))
