"""Finds models and adapters by their paths and names in a workflow. Only headers and configs are read."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Final

from nodegraph import Reads, Resource
from nodegraph.plugin_api import NotFetchedError, expected_digests, may_fetch, under
from nodegraph_diffusion.checkpoint import (
    Checkpoint,
    ControlNetFile,
    Description,
    GligenFile,
    ImageEncoderFile,
    LoraFile,
    OtherUpscalerFile,
    T2IAdapterFile,
    TextEncoders,
    UNetPart,
    UpscalerFile,
    VAEPart,
    describe,
)
from nodegraph_nodes.catalogue import Wanted, find_by_name
from nodegraph_nodes.models.errors import file_errors

Model = Checkpoint | UNetPart | VAEPart | TextEncoders
"""A model, or a part of one that can be loaded without the others."""

NetworkFile = UpscalerFile | OtherUpscalerFile | ImageEncoderFile | T2IAdapterFile | GligenFile
"""A network beside those of a model."""

BUILTIN: Final = "builtin:"
HUB: Final = "hf://"

_HUB_NAME: Final = (
    r"(?P<page>(?:https?://)?huggingface\.co/)?(?P<repo>\w[\w.-]*/\w[\w.-]*)"
    r"(?:/(?:blob|resolve|tree)/[^/]+(?:/(?P<file>[^?]+))?)?/?(?:\?.*)?"
)
_FILE_SUFFIXES: Final = (".safetensors", ".ckpt", ".pt", ".pth", ".bin", ".sft")


def builtin_models() -> dict[str, Path]:
    """The folders of the models that are shipped, by the name after `builtin:`."""
    import nodegraph_diffusion

    return {"tiny": Path(nodegraph_diffusion.__file__).parent / "tiny"}


def model_path(text: str, base: Path, wanted: Wanted | None = "model") -> Path:
    """The file or folder that `text` names: `builtin:NAME`, or what `file_path` returns.

    Raises ValueError if there is no such built-in model, and as `file_path` does.
    """
    if text.startswith(BUILTIN):
        name, models = text.removeprefix(BUILTIN), builtin_models()
        if name not in models:
            known = ", ".join(BUILTIN + model for model in models)
            raise ValueError(f"there is no built-in model '{name}'; there is {known}")
        return models[name]
    return file_path(text, base, wanted)


def file_path(text: str, base: Path, wanted: Wanted | None) -> Path:
    """The file or folder that `text` names: `hf://ORGANISATION/NAME`, which is downloaded, a path relative to `base`, or a name.

    A name is looked up in the user's folders of models if there is nothing at such a path; `wanted` is what it should hold. Raises
    ValueError if the download fails or is not what a lock file says, if no or several models have the name, and for the name of a
    model on the hub without `hf://`; NotFetchedError if nothing may be downloaded now.
    """
    if not text.startswith(HUB):
        path = under(base, text)
        if not os.path.lexists(path) and (named := _named(text, wanted)):
            return named
        if not os.path.lexists(path) and not path.parent.is_dir() and (address := _hub_address(text)):
            expected = "a .safetensors file or a diffusers folder"
            raise ValueError(
                f"{path}: expected {expected}, found nothing. Did you mean '{address}', a model on the Hugging Face hub?"
            )
        return path
    from nodegraph_diffusion.checkpoint.files.hub import describe_fetch, fetch, find_fetched

    with file_errors():
        if may_fetch():
            return fetch(text, expected_digests(text))
        found = find_fetched(text)
        if found is None:
            raise NotFetchedError(f"{text} is not fetched yet; 'nodegraph run' downloads {describe_fetch(text)}")
        return found


def find_file(text: str, base: Path) -> Resource:
    """A file that is no model, on this machine or on the hub. Raises FileNotFoundError, and ValueError as `file_path` does."""
    path = file_path(text, base, None) if text.startswith(HUB) else under(base, text)
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    if not path.is_file():
        raise FileNotFoundError(f"{text if text.startswith(HUB) else path} is not a file")
    return Resource(path, {"file": path})


AnyFile = Annotated[Path, Reads(find_file, by_content=True)]
"""A path to a file, or its address on the hub. The cache key depends on the content of the file."""


def folder_path(text: str, base: Path) -> Path:
    """The folder or pattern `text` on this machine. Raises ValueError for an address of the hub."""
    if text.startswith(HUB):
        raise ValueError(f"{text}: expected a folder on this machine, found an address of the hub. Download the folder first")
    return under(base, text)


def _named(text: str, wanted: Wanted | None) -> Path | None:
    """What `find_by_name` returns. Its error also says if the text could be the name of a model on the hub."""
    try:
        return find_by_name(text, wanted)
    except ValueError as error:
        address = _hub_address(text)
        if address is None:
            raise
        raise ValueError(f"{str(error).rstrip('.')}. '{address}' is a model on the Hugging Face hub") from error


def _hub_address(text: str) -> str | None:
    """The `hf://` address for the name of a model on the hub, or the address of its page; None for other text."""
    match = re.fullmatch(_HUB_NAME, text)
    if match is None or (Path(text).suffix in _FILE_SUFFIXES and match["page"] is None):
        return None
    return f"hf://{match['repo']}" + (f"/{match['file']}" if match["file"] else "")


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
    """A model with its files, under names that do not depend on where the files are, and its notes."""
    if model.path.is_dir():
        files = {_name_in(model.path, file): file for file in model.files}
    else:
        files = {"model" if file == model.path else file.name: file for file in model.files}
    return Resource(model, files, notes_of(model))


def notes_of(found: Model | ControlNetFile | LoraFile | NetworkFile) -> tuple[str, ...]:
    """What was ignored or assumed when the files were described, each with the name of the file or folder."""
    return tuple(f"{found.path.name}: {note}" for note in found.notes)


def _name_in(folder: Path, file: Path) -> str:
    """The path of a file relative to a model's folder. If that is the folder of a part, the file may be next to it."""
    if file.is_relative_to(folder):
        return file.relative_to(folder).as_posix()
    return f"../{file.relative_to(folder.parent).as_posix()}"


def _model_finder(pick: Callable[[Description], Model], wanted: Wanted, *, whole: bool = False) -> Callable[[str, Path], Resource]:
    def find(text: str, base: Path) -> Resource:
        """The model that `text` names. Raises ValueError, with what was found, if it is not of this kind."""
        path = _steady(model_path(text, base, wanted))
        with file_errors():
            description = _described(path)
            resource = model_resource(pick(description))
        return resource._replace(value=description) if whole else resource

    return find


# These two nodes can read what they find as one of another family, so they receive the whole description.
find_model = _model_finder(Description.model, "model", whole=True)
find_text_encoders = _model_finder(Description.text_encoders, "text_encoder", whole=True)

find_unet = _model_finder(Description.unet, "unet")
find_vae = _model_finder(Description.vae, "vae")


def _network_finder(
    pick: Callable[[Description], UpscalerFile | OtherUpscalerFile | ImageEncoderFile | GligenFile], wanted: Wanted
) -> Callable[[str, Path], Resource]:
    def find(text: str, base: Path) -> Resource:
        """The network that `text` names. Raises ValueError, with what was found, if it is not of this kind."""
        path = file_path(text, base, wanted)
        with file_errors():
            found = pick(_described(_steady(path)))
        names = ["network", "spandrel" if isinstance(found, OtherUpscalerFile) else "config"]
        return Resource(found, dict(zip(names, found.files, strict=False)), notes_of(found))

    return find


find_upscaler = _network_finder(Description.upscaler, "upscaler")
find_image_encoder = _network_finder(Description.image_encoder, "image_encoder")
find_gligen = _network_finder(Description.gligen, "gligen")


def find_lora(text: str, base: Path) -> Resource:
    """The LoRA or similar adapter that `text` names, a file or a folder. Raises ValueError for anything else."""
    path = file_path(text, base, "lora")
    with file_errors():
        found = _described(_steady(path)).lora()
    names = [file.name for file in found.files] if found.path.is_dir() else ["lora", "config"]
    return Resource(found, dict(zip(names, found.files, strict=False)), notes_of(found))


def find_embedding(text: str, base: Path) -> Resource:
    """The textual inversion that `text` names. Raises ValueError for anything else."""
    path = file_path(text, base, "embedding")
    with file_errors():
        found = _described(_steady(path)).embedding()
    return Resource(found, {"file": found.path})


def find_control_net(text: str, base: Path) -> Resource:
    """The ControlNet or T2I-Adapter that `text` names, a file or a diffusers folder. Raises ValueError for anything else."""
    path = file_path(text, base, "controlnet")
    with file_errors():
        description = _described(_steady(path))
        found = description.t2i_adapter() if description.content == "t2i_adapter" else description.controlnet()
    names = [file.name for file in found.files] if found.path.is_dir() else ["control", "config"]
    return Resource(found, dict(zip(names, found.files, strict=False)), notes_of(found))
