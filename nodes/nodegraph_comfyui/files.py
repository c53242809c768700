"""Looks for the files that a graph names: pictures and latents in ComfyUI's folder `input`, models in the user's folders."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from nodegraph.plugin_api import ImportRequest, SettingsError, model_dirs
from nodegraph_comfyui.building.call import Converted
from nodegraph_comfyui.building.steps import Setting
from nodegraph_nodes.catalogue import Wanted, find_by_name

_HOLDS: Final[dict[str, Wanted]] = {
    "checkpoints": "model",
    "diffusers": "model",
    "diffusion_models": "unet",
    "vae": "vae",
    "text_encoders": "text_encoder",
    "loras": "lora",
    "controlnet": "controlnet",
    "embeddings": "embedding",
    "upscale_models": "upscaler",
    "clip_vision": "image_encoder",
    "gligen": "gligen",
}
"""What ComfyUI's folders hold."""

INPUT: Final = "input"


def found_inputs(converted: Converted, request: ImportRequest) -> None:
    """Write the path of each picture and latent that was found instead of its name."""
    names = {text for _, folder, text in converted.files if folder == INPUT}
    paths = {text: path for text in names if (path := _input(text, request)) is not None}
    for step in converted.steps.steps:
        for name, value in step.inputs.items():
            if name == "path" and isinstance(value, Setting) and value.value in paths:
                step.inputs[name] = Setting(value.name, paths[value.value], value.owner, value.title)


def missing_files(converted: Converted, request: ImportRequest) -> Iterator[str]:
    """A note for each file that was not found; running the workflow will be an error."""
    for node, folder, text in dict.fromkeys(converted.files):
        if folder == INPUT:
            if _input(text, request) is None:
                yield f"{node}: there is no file {text} beside {request.file}, or in a folder 'input' there"
        elif (why := _why_missing(text, folder, request.base)) is not None:
            yield f"{node}: {why}"


def _input(text: str, request: ImportRequest) -> str | None:
    """The path of a picture or a latent from the folder that relative paths start from."""
    places = (
        request.folder,
        request.folder / INPUT,
        *(place / INPUT for folder in _model_dirs() for place in (folder, folder.parent)),
    )
    found = next((place / text for place in places if (place / text).is_file()), None)
    if found is None:
        return None
    try:
        relative = Path(os.path.relpath(found, request.base))
    except ValueError:  # another drive
        return found.as_posix()
    return relative.as_posix() if ".." not in relative.parts[:2] else found.absolute().as_posix()


def _why_missing(text: str, folder: str, base: Path) -> str | None:
    """Why a model cannot be found; None if it was found."""
    if text.startswith("builtin:") or (base / text).exists():
        return None
    try:
        found = find_by_name(text, _HOLDS.get(folder))
    except (ValueError, SettingsError) as error:
        return str(error)
    return None if found is not None else f"there is no file {text}. Name your folders of models: [models] dirs in the config file"


def _model_dirs() -> tuple[Path, ...]:
    try:
        return model_dirs()
    except SettingsError:
        return ()
