"""The user's models, LoRAs and other files in the folders of the setting `[models] dirs`, found by name.

A folder may have the layout of ComfyUI's `models/`, whose subfolders say what is in them, or any other. Only names are read here.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

from nodegraph.plugin_api import dataclass, did_you_mean
from nodegraph_nodes.model_folders import ModelFolder, model_folders

Wanted = Literal[
    "model",
    "unet",
    "vae",
    "text_encoder",
    "lora",
    "controlnet",
    "embedding",
    "upscaler",
    "image_encoder",
    "gligen",
]

SUFFIXES: Final = (".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin")
_FOLDER_MARKS: Final = ("model_index.json", "config.json", "adapter_config.json")  # a folder with one of these is one model
_SUBFOLDERS: Final[dict[str, Wanted]] = {
    "checkpoints": "model",
    "diffusers": "model",
    "diffusion_models": "unet",
    "unet": "unet",
    "vae": "vae",
    "text_encoders": "text_encoder",
    "clip": "text_encoder",
    "loras": "lora",
    "controlnet": "controlnet",
    "t2i_adapter": "controlnet",
    "embeddings": "embedding",
    "upscale_models": "upscaler",
    "clip_vision": "image_encoder",
    "gligen": "gligen",
}
"""ComfyUI's subfolders, by what they hold."""

_SHOWN: Final = 8
_MOST_FILES: Final = 100_000


@dataclass(frozen=True)
class CatalogueEntry:
    """A file or folder in the catalogue. `name` is its path in its folder, without suffix; `holds` what its subfolder says."""

    name: str
    path: Path
    holds: Wanted | None

    @property
    def short(self) -> str:
        """The name without folders."""
        return self.name.rpartition("/")[2]


def catalogue() -> list[CatalogueEntry]:
    """Everything in the user's folders of models that could be loaded, by name. Raises SettingsError if the setting is wrong."""
    entries = {entry.path: entry for folder in model_folders() for entry in _entries(folder)}
    return sorted(entries.values(), key=lambda entry: (entry.name.lower(), str(entry.path)))


def find_by_name(text: str, wanted: Wanted | None) -> Path | None:
    """The file or folder that `text` names in the user's folders of models; None if it cannot be a name, or there are no folders.

    A name is that of a file or folder, with or without its suffix and its subfolders. Of several, those in ComfyUI's subfolder
    for what is `wanted` count. Raises ValueError if there is none of this name, or if there are several, which it lists.
    """
    folders = model_folders()
    if not folders or not text.strip() or Path(text).is_absolute() or text.startswith((".", "~")) or "://" in text:
        return None
    entries = catalogue()
    found = [entry for entry in entries if text in _names(entry)]
    found = found or [entry for entry in entries if text.lower() in {name.lower() for name in _names(entry)}]
    found = _of_kind(found, wanted)
    if len(found) == 1:
        return found[0].path
    if found:
        paths = ", ".join(str(entry.path) for entry in found[:_SHOWN])
        raise ValueError(f"'{text}' is the name of {len(found)} files: {paths}. Write more of the path of one of them")
    bare = _bare(text)
    close = _of_kind([entry for entry in entries if bare.lower() in entry.name.lower()], wanted)
    where = ", ".join(dict.fromkeys(str(folder.path) for folder in folders))
    if close:
        names = ", ".join(entry.name for entry in close[:_SHOWN]) + (", ..." if len(close) > _SHOWN else "")
        raise ValueError(f"there is no file '{text}', and no model of this name in {where}. Did you mean one of: {names}?")
    hint = did_you_mean(bare, [entry.short for entry in _of_kind(entries, wanted)]) or "'nodegraph models' lists them."
    raise ValueError(f"there is no file '{text}', and no model of this name in {where}. {hint}")


def _bare(text: str) -> str:
    """A name without folders and without the suffix of a model, which similar names may not share."""
    name = text.replace("\\", "/").rpartition("/")[2] or text
    stem, dot, suffix = name.rpartition(".")
    return stem if stem and f"{dot}{suffix}".lower() in SUFFIXES else name


def _names(entry: CatalogueEntry) -> set[str]:
    """What an entry may be called."""
    suffix = "" if entry.path.is_dir() else entry.path.suffix
    inside = entry.name.partition("/")[2]  # without ComfyUI's subfolder
    names = {entry.name, entry.short, *([inside] if inside and entry.holds else [])}
    return names | {name + suffix for name in names}


def _of_kind(entries: list[CatalogueEntry], wanted: Wanted | None) -> list[CatalogueEntry]:
    """The entries without those whose subfolder says that they hold something else; all if none is left."""
    fitting = [entry for entry in entries if wanted is None or entry.holds in (wanted, None)]
    exact = [entry for entry in fitting if entry.holds == wanted]
    return exact or fitting or entries


def _entries(of: ModelFolder) -> Iterator[CatalogueEntry]:
    """The files and folders of models below a folder. Links are followed, each folder once."""
    folder = of.path
    seen: set[str] = set()
    count = 0
    for current, folders, files in os.walk(folder, followlinks=True):
        here = Path(current)
        real = os.path.realpath(current)
        if real in seen or count > _MOST_FILES:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if here != folder and not set(files).isdisjoint(_FOLDER_MARKS):
            folders.clear()
            yield _entry(of, here, here.name)
            continue
        for name in files:
            count += 1
            if name.lower().endswith(SUFFIXES) and not name.startswith("."):
                yield _entry(of, here / name, Path(name).stem)


def _entry(of: ModelFolder, path: Path, name: str) -> CatalogueEntry:
    parent = path.relative_to(of.path).parent
    top = of.kind or (parent.parts[0].lower() if parent.parts else "")
    return CatalogueEntry((parent / name).as_posix(), path, _SUBFOLDERS.get(top))
