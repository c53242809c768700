"""The two files of settings: the project's and the user's."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import SettingsError
from nodegraph.light_dataclass import dataclass
from nodegraph.settings.names import SETTINGS, Setting
from nodegraph.text import described, did_you_mean, either

PROJECT_FILE: Final = "nodegraph.toml"
PROJECT_VARIABLE: Final = "NODEGRAPH_PROJECT"
NO_PROJECT: Final = "none"


def user_file() -> Path | None:
    """The path of the user's file, which may not exist. None if the user has no home folder."""
    import platformdirs

    try:
        folder = platformdirs.user_config_path("nodegraph", appauthor=False)
    except RuntimeError:
        return None
    return folder / "config.toml" if folder.is_absolute() else None


def project_file() -> Path | None:
    """The project's file: the one that NODEGRAPH_PROJECT names, else the nearest at or above the current directory.

    The command line sets the variable to the file that is nearest to its workflow. Raises SettingsError if there is no such file.
    """
    named = os.environ.get(PROJECT_VARIABLE)
    if named == NO_PROJECT:
        return None
    if named:
        path = Path(named).absolute()
        if not path.is_file():
            raise SettingsError(
                f"[E401] {PROJECT_VARIABLE} cannot be used: there is no file {path}. Name a project's {PROJECT_FILE}, or "
                f"'{NO_PROJECT}' for no project"
            )
        return path
    return nearest_project(Path())


def nearest_project(folder: Path) -> Path | None:
    """The file `nodegraph.toml` in this folder, or in the nearest folder above it that has one."""
    try:
        folder = folder.absolute()
    except OSError:  # the current directory was removed
        return None
    paths = (each / PROJECT_FILE for each in (folder, *folder.parents))
    return next((path for path in paths if os.path.isfile(path)), None)  # noqa: PTH113 (is_file raises if a folder is not readable)


@dataclass(frozen=True)
class FileSettings:
    """The path of a file of settings, if there is one, and its settings by name, such as "cache.dir"."""

    path: Path | None
    settings: Mapping[str, Any]


_remembered: ContextVar[dict[str, FileSettings] | None] = ContextVar("settings that were read", default=None)


@contextlib.contextmanager
def settings_read_once() -> Iterator[None]:
    """During the block, the calling thread reads each file of settings at most once: finding them takes longer than a node."""
    token = _remembered.set({})
    try:
        yield
    finally:
        _remembered.reset(token)


def read_user() -> FileSettings:
    """The user's file. Raises SettingsError if it cannot be used."""
    return _read_file("user", user_file, of_project=False)


def read_project() -> FileSettings:
    """The project's file. Raises SettingsError if it cannot be used."""
    return _read_file("project", project_file, of_project=True)


def _read_file(name: str, find: Callable[[], Path | None], *, of_project: bool) -> FileSettings:
    known = _remembered.get()
    if known is not None and name in known:
        return known[name]
    path = find()
    settings = FileSettings(path, _read(path, of_project=of_project))
    if known is not None:
        known[name] = settings
    return settings


def absolute(directory: Path | str, name: str = "cache folder", base: Path | None = None) -> Path:
    """The path, absolute, so that it stays the same if the current directory changes. A relative one starts at `base`."""
    try:
        path = Path(directory).expanduser()
    except RuntimeError as error:
        raise SettingsError(f"[E401] the {name} {directory} cannot be used: {error}. Give its full path") from None
    return (path if base is None else base / path).absolute()


def _read(file: Path | None, *, of_project: bool) -> dict[str, Any]:
    tables = _document(file)
    if file is None or not tables:
        return {}
    known = {name: setting for name, setting in SETTINGS.items() if setting.in_project or not of_project}
    found: dict[str, Any] = {}
    for table, entries in tables.items():
        keys = [setting.key for setting in known.values() if setting.table == table]
        if of_project and not keys and any(setting.table == table for setting in SETTINGS.values()):
            raise SettingsError(
                f"[E401] [{table}] in {file} cannot be used: a project's file cannot set folders of plugins, so that a workflow "
                f"from elsewhere runs no code. Use an option, {_variables(table)}, or your own file {user_file()}"
            )
        if not keys:
            names = [*dict.fromkeys(setting.table for setting in known.values())]
            hint = did_you_mean(table, names) or f"Expected {either(names)}."
            raise SettingsError(f"[E401] '{table}' in {file} is not a table of settings. {hint}")
        if not isinstance(entries, dict):
            raise SettingsError(
                f"[E401] '{table}' in {file} is not a table: expected [{table}] with {either(keys)}, found {described(entries)}"
            )
        for key, value in entries.items():
            if key not in keys and f"{table}.{key}" in SETTINGS:
                raise SettingsError(
                    f"[E401] '{key}' in [{table}] of {file} cannot be used: only you can set it, so that a workflow from elsewhere "
                    f"does not. Use an option, {SETTINGS[f'{table}.{key}'].variable}, or your own file {user_file()}"
                )
            if key not in keys:
                hint = did_you_mean(key, keys) or f"Expected {either(keys)}."
                raise SettingsError(f"[E401] '{key}' in [{table}] of {file} is not a setting. {hint}")
            setting = known[f"{table}.{key}"]
            found[setting.name] = _with_full_paths(setting, value, file)
    return _within(file, found) if of_project else found


def _document(file: Path | None) -> Mapping[str, Any]:
    """What a file holds; nothing if there is no file."""
    if file is None:
        return {}
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"[E401] the config file {file} cannot be read: {error}. Fix or remove it") from None
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"[E401] the config file {file} is not valid TOML: {error}") from None


def _with_full_paths(setting: Setting, value: Any, file: Path) -> Any:
    """The value, with full paths instead of relative ones, which start at the folder of the file."""
    wrong = SettingsError(f"[E401] '{setting.key}' in {file} cannot be used: expected {setting.expected}, found {described(value)}")
    if setting.key == "dir":
        if not isinstance(value, str):
            raise wrong
        return absolute(value, "cache folder", file.parent) if value else value
    if setting.key == "dirs":
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise wrong
        return [absolute(part, f"folder of {setting.table}", file.parent) for part in value]
    return value


def _within(file: Path, found: dict[str, Any]) -> dict[str, Any]:
    """Check that a project's cache is its own: otherwise a file from elsewhere could empty the cache of another project."""
    folder = found.get("cache.dir")
    if folder and not folder.resolve().is_relative_to(file.parent.resolve()):
        raise SettingsError(
            f"[E401] 'dir' in {file} cannot be used: expected a folder inside the project, found {folder}. Name another cache in "
            f"your own file {user_file()}"
        )
    if "cache.size" in found and not folder:
        raise SettingsError(
            f"[E401] 'size' in {file} cannot be used without 'dir': a project limits its own cache only. Add 'dir = \"cache\"'"
        )
    return found


def _variables(table: str) -> str:
    return either([setting.variable for setting in SETTINGS.values() if setting.table == table])
