"""The folders in which models are looked for: those of the setting `[models] dirs`, and those that ComfyUI knows besides.

An entry may be a folder of models, the folder of ComfyUI itself, or an `extra_model_paths.yaml`, which is also read beside
ComfyUI's `models/`.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from nodegraph.plugin_api import SettingsError, dataclass, model_dirs

_EXTRA: Final = "extra_model_paths.yaml"
_LONGEST: Final = 1 << 20  # bytes


@dataclass(frozen=True)
class ModelFolder:
    """A folder, and ComfyUI's name for what all files in it are; None if its subfolders say that, or nothing does."""

    path: Path
    kind: str | None = None


def model_folders() -> list[ModelFolder]:
    """All folders, each once. Raises SettingsError if a setting or an `extra_model_paths.yaml` cannot be used."""
    return list(dict.fromkeys(folder for entry in model_dirs() for folder in _folders(entry)))


def _folders(entry: Path) -> Iterator[ModelFolder]:
    if entry.is_file():
        yield from _extra(entry)
        return
    is_comfyui = (entry / "models").is_dir() and ((entry / _EXTRA).is_file() or (entry / "folder_paths.py").is_file())
    yield ModelFolder(entry / "models" if is_comfyui else entry)
    extra = (entry if is_comfyui else entry.parent) / _EXTRA
    if extra.is_file():
        yield from _extra(extra)


def _extra(file: Path) -> Iterator[ModelFolder]:
    """The folders that an `extra_model_paths.yaml` names: in each section a base folder, and folders by what they hold."""
    for section in _read(file).values():
        if not isinstance(section, dict):
            continue
        base = file.parent / _expanded(section.get("base_path") or "")
        for kind, texts in section.items():
            if kind in ("base_path", "is_default") or not isinstance(texts, str):
                continue
            for text in filter(None, map(str.strip, texts.splitlines())):
                yield ModelFolder(Path(os.path.normpath(base / _expanded(text))), str(kind))


def _expanded(text: Any) -> Path:
    return Path(os.path.expandvars(str(text).replace("\\", "/"))).expanduser()


def _read(file: Path) -> dict[Any, Any]:
    """The sections. Raises SettingsError."""
    import yaml

    try:
        with file.open("rb") as stream:
            found = yaml.safe_load(stream.read(_LONGEST))
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise SettingsError(f"[E401] {file} cannot be read: {str(error).splitlines()[0]}. Correct it, or remove it") from None
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise SettingsError(f"[E401] {file} has no sections with folders of models. Correct it, or remove it")
    return found
