"""Finds models and adapters by their paths and names in a workflow. Only headers and configs are read."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

from nodegraph import Resource
from nodegraph.plugin_api import under
from nodegraph_diffusion.checkpoint import (
    Checkpoint,
    Description,
    TextEncoders,
    UNetPart,
    VAEPart,
    describe,
)
from nodegraph_nodes.models.errors import file_errors

Model = Checkpoint | UNetPart | VAEPart | TextEncoders
"""A model, or a part of one that can be loaded without the others."""

BUILTIN: Final = "builtin:"


def builtin_models() -> dict[str, Path]:
    """The folders of the models that are shipped, by the name after `builtin:`."""
    import nodegraph_diffusion

    return {"tiny": Path(nodegraph_diffusion.__file__).parent / "tiny"}


def model_path(text: str, base: Path) -> Path:
    """The file or folder that `text` names: `builtin:NAME`, `hf://ORGANISATION/NAME`, or a path relative to the folder `base`.

    Raises ValueError if there is no such built-in model or the download fails.
    """
    if text.startswith(BUILTIN):
        name, models = text.removeprefix(BUILTIN), builtin_models()
        if name not in models:
            known = ", ".join(BUILTIN + model for model in models)
            raise ValueError(f"there is no built-in model '{name}'; there is {known}")
        return models[name]
    if not text.startswith("hf://"):
        return under(base, text)
    from nodegraph_diffusion.checkpoint.files.hub import fetch

    with file_errors():
        return fetch(text)


def _steady(path: Path) -> Path:
    """The path without links to folders, which may be switched before the model is loaded. A file that is a link stays one.

    The name of a file matters, and so do the names of those next to it.
    """
    try:
        folder = path if path.is_dir() else path.parent
        real = folder.resolve()
    except (OSError, RuntimeError):  # a circle of links; opening the model will fail
        return path
    if real == Path(os.path.abspath(folder)):  # noqa: PTH100 (`absolute` keeps "..")
        return path
    return real if folder is path else real / path.name


def _described(path: Path) -> Description:
    """The description of a path that stayed the same file meanwhile. Raises ValueError if it is a link that was switched."""
    before = os.path.realpath(path)
    description = describe(path)
    if os.path.realpath(path) != before:
        raise ValueError(f"{path} was switched to another file while it was read. Run again")
    return description


def model_resource(model: Model) -> Resource:
    """A model with its files, under names that do not depend on where the files are."""
    if model.path.is_dir():
        return Resource(model, {_name_in(model.path, file): file for file in model.files})
    return Resource(model, {"model" if file == model.path else file.name: file for file in model.files})


def _name_in(folder: Path, file: Path) -> str:
    """The path of a file relative to a model's folder. If that is the folder of a part, the file may be next to it."""
    if file.is_relative_to(folder):
        return file.relative_to(folder).as_posix()
    return f"../{file.relative_to(folder.parent).as_posix()}"


def _model_finder(pick: Callable[[Description], Model], *, whole: bool = False) -> Callable[[str, Path], Resource]:
    def find(text: str, base: Path) -> Resource:
        """The model that `text` names. Raises ValueError, with what was found, if it is not of this kind."""
        path = _steady(model_path(text, base))
        with file_errors():
            description = _described(path)
            resource = model_resource(pick(description))
        return Resource(description, resource.files) if whole else resource

    return find


# These two nodes can read what they find as one of another family, so they receive the whole description.
find_model = _model_finder(Description.model, whole=True)
find_text_encoders = _model_finder(Description.text_encoders, whole=True)

find_unet = _model_finder(Description.unet)
find_vae = _model_finder(Description.vae)


def find_lora(text: str, base: Path) -> Resource:
    """The LoRA or similar adapter that `text` names, a file or a folder. Raises ValueError for anything else."""
    with file_errors():
        found = _described(_steady(under(base, text))).lora()
    names = [file.name for file in found.files] if found.path.is_dir() else ["lora", "config"]
    return Resource(found, dict(zip(names, found.files, strict=False)))


def find_embedding(text: str, base: Path) -> Resource:
    """The textual inversion that `text` names. Raises ValueError for anything else."""
    with file_errors():
        found = _described(_steady(under(base, text))).embedding()
    return Resource(found, {"file": found.path})


def find_control_net(text: str, base: Path) -> Resource:
    """The ControlNet that `text` names, a file or a diffusers folder. Raises ValueError for anything else."""
    with file_errors():
        found = _described(_steady(under(base, text))).controlnet()
    return Resource(found, {file.name: file for file in found.files} if found.path.is_dir() else {"control": found.weights})
