"""The value of each setting, and where it comes from."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import SettingsError
from nodegraph.light_dataclass import dataclass
from nodegraph.settings.files import absolute, read_project, read_user
from nodegraph.settings.names import INLINE, REMOTE_KEY_VARIABLE, SETTINGS, VERIFY_VARIABLE
from nodegraph.settings.remote import Remote, checked_remote
from nodegraph.settings.sizes import parse_size
from nodegraph.text import described

DEFAULT_SIZE: Final = 20 * 10**9


@dataclass(frozen=True)
class Settings:
    """The cache directory, and how many bytes it may hold. None: there is no limit."""

    cache_dir: Path
    cache_size: int | None


@dataclass(frozen=True)
class Found:
    """The value of a setting, and where it was found: a variable of the environment, a file, or neither: the default."""

    value: Any
    variable: str | None = None
    file: Path | None = None

    @property
    def origin(self) -> str:
        """Where it was found, for people."""
        return self.variable or ("default" if self.file is None else str(self.file))


def find(name: str) -> Found | None:
    """The setting called `name`, such as "cache.dir": from the environment, the project's file or the user's file.

    Raises SettingsError if a file cannot be used.
    """
    variable = SETTINGS[name].variable
    if text := os.environ.get(variable, "").strip():
        return Found(text, variable=variable)
    for read in (read_project, read_user) if SETTINGS[name].in_project else (read_user,):
        file = read()
        if file.settings.get(name) not in (None, ""):
            return Found(file.settings[name], file=file.path)
    return None


def effective(name: str) -> Found:
    """The setting called `name`, or its default; folders are full paths. Raises SettingsError if the value cannot be used."""
    found = find(name)
    checks: Mapping[str, Callable[[], Any]] = {
        "cache.dir": lambda: _cache_dir(None),
        "cache.size": lambda: _cache_size(None),
        "cache.remote": load_remote,
        "cache.remote_access": load_remote,
        "models.dirs": model_dirs,
        "models.memory": load_model_memory,
        "run.verify": load_verify_share,
        "run.stall": load_stall_seconds,
        "run.inline": load_inline,
    }
    checked = checks[name]() if name in checks else None
    if name == "cache.dir":
        return replace(found or Found(None), value=checked)
    return found or Found(SETTINGS[name].default)


def load_settings(cache_dir: Path | str | None = None, cache_size: int | str | None = None) -> Settings:
    """The settings of the cache: the arguments (flags), else what is set, else the cache folder of the platform, and 20 GB.

    Raises SettingsError, which names the source of a value that cannot be used.
    """
    return Settings(_cache_dir(cache_dir), _cache_size(cache_size))


def load_remote(url: str | None = None, name: str = "--cache-remote") -> Remote | None:
    """The shared store behind the cache: at `url` (an argument called `name`), else what is set, else None. "none" means None.

    Raises SettingsError if a value cannot be used.
    """
    if url is None:
        found = find("cache.remote")
        if found is None:
            return None
        url, name = found.value, _source("cache.remote", found)
    access = find("cache.remote_access")
    return checked_remote(
        url,
        source=name,
        access="write" if access is None else access.value,
        access_source="" if access is None else _source("cache.remote_access", access),
        key=os.environ.get(REMOTE_KEY_VARIABLE, ""),
    )


def load_model_memory(size: int | str | None = None) -> int | None:
    """How many bytes of loaded models stay in main memory: `size`, else what is set, else None.

    Raises SettingsError if the value cannot be used.
    """
    found = find("models.memory") if size is None else None
    if size is None and found is None:
        return None
    limit = _size(size if found is None else found.value, "the model memory" if found is None else _source("models.memory", found))
    return sys.maxsize if limit is None else limit


def model_dirs() -> tuple[Path, ...]:
    """The user's folders of models, absolute. In NODEGRAPH_MODELS, they are separated as in PATH.

    Raises SettingsError if a config file cannot be used.
    """
    return tuple(absolute(part, "folder of models") for part in _parts(find("models.dirs")))


def plugin_dirs() -> list[Path | str]:
    """The folders of plugins that the user has set. Raises SettingsError if the user's file cannot be used."""
    return [*_parts(find("plugins.dirs"))]


def load_verify_share(share: float | str | None = None, name: str = "verify") -> float:
    """The share of cached results that a run checks: `share` (an argument called `name`), else what is set, else 0.

    Raises SettingsError unless it is a number from 0 to 1.
    """
    value: Any = share
    if value is None:
        found = find("run.verify")
        value, name = (0, VERIFY_VARIABLE) if found is None else (found.value, _source("run.verify", found))
    number = _number(value)
    if not 0 <= number <= 1:  # NaN neither
        raise SettingsError(
            f"[E401] {name} cannot be used: expected the share of cached results to check, from 0 to 1, such as 0.01, "
            f"found {described(value)}"
        )
    return number


def load_stall_seconds() -> float | None:
    """After how many seconds without progress a run prints what its threads do. None: never.

    Raises SettingsError unless it is a number of seconds from 0.1 to a day.
    """
    found = find("run.stall")
    if found is None:
        return None
    seconds = _number(found.value)
    if not 0.1 <= seconds <= 86400:  # NaN neither
        raise SettingsError(
            f"[E401] {_source('run.stall', found)} cannot be used: expected {SETTINGS['run.stall'].expected}, found "
            f"{described(found.value)}"
        )
    return seconds


def load_inline(choice: str | None = None) -> str:
    """Whether the terminal shows outputs, one of `INLINE`: `choice`, else what is set, else "auto".

    Raises SettingsError unless it is one of these.
    """
    found = find("run.inline") if choice is None else None
    value = found.value if found is not None else choice or INLINE[0]
    if value not in INLINE:
        source = "inline" if found is None else _source("run.inline", found)
        raise SettingsError(f"[E401] {source} cannot be used: expected {SETTINGS['run.inline'].expected}, found {described(value)}")
    return str(value)


def _cache_dir(directory: Path | str | None) -> Path:
    if directory:
        return absolute(directory)
    found = find("cache.dir")
    return absolute(found.value) if found else _default_directory()


def _cache_size(size: int | str | None) -> int | None:
    if size is not None:
        return _size(size, "the cache size")
    found = find("cache.size")
    return DEFAULT_SIZE if found is None else _size(found.value, _source("cache.size", found))


def _size(value: Any, source: str) -> int | None:
    try:
        return parse_size(value)
    except ValueError as error:
        raise SettingsError(f"[E401] {source} cannot be used: {error}") from None


def _number(value: Any) -> float:
    """The number that a value stands for; NaN if it stands for none."""
    try:
        return math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        return math.nan


def _parts(found: Found | None) -> Sequence[Path | str]:
    """The folders in a setting: a list in a file, text separated as in PATH in the environment."""
    if found is None:
        return ()
    if found.variable:
        return [part for part in found.value.split(os.pathsep) if part]
    folders: Sequence[Path | str] = found.value
    return folders


def _source(name: str, found: Found) -> str:
    """What a message calls the source of a setting."""
    return found.variable or f"'{SETTINGS[name].key}' in {found.file}"


def _default_directory() -> Path:
    import platformdirs

    try:
        folder = platformdirs.user_cache_path("nodegraph", appauthor=False)
    except RuntimeError:
        folder = Path()
    if not folder.is_absolute():
        raise SettingsError(
            f"[E401] there is no home folder, so there is no default cache folder. Set {SETTINGS['cache.dir'].variable}, or use "
            "--cache-dir"
        )
    return folder
