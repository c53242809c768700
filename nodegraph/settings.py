"""Settings of the cache, the model memory and the folders of models: from a flag, the environment or the config file.

The first of these that has a setting counts. The file is `config.toml` in the user's configuration folder
(`~/.config/nodegraph/` on Linux):

    [cache]
    dir = "~/big-disk/nodegraph"        # a relative path starts at the folder of this file
    size = "50 GB"                      # or a number of bytes, or "unlimited"

    [models]
    dirs = ["~/models", "~/ComfyUI/models"]
"""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import SettingsError
from nodegraph.text import described, did_you_mean

DIRECTORY_VARIABLE: Final = "NODEGRAPH_CACHE_DIR"
SIZE_VARIABLE: Final = "NODEGRAPH_CACHE_SIZE"
MODEL_MEMORY_VARIABLE: Final = "NODEGRAPH_MODEL_MEMORY"
STALL_VARIABLE: Final = "NODEGRAPH_STALL"
MODELS_VARIABLE: Final = "NODEGRAPH_MODELS"
VERIFY_VARIABLE: Final = "NODEGRAPH_VERIFY"
DEFAULT_SIZE: Final = 20 * 10**9
UNLIMITED: Final = "unlimited"

_TABLES: Final = {"cache": "[cache] with 'dir' and 'size'", "models": "[models] with 'dirs'"}

_UNITS: Final[dict[str, int]] = {"": 1, "b": 1} | {
    prefix + end: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for end, base in (("", 1000), ("b", 1000), ("ib", 1024))
}
_SIZE: Final = r"(\d+(?:\.\d+)?)\s*([a-z]*)"


@dataclass(frozen=True)
class Settings:
    """The cache directory, and how many bytes it may hold. None: there is no limit."""

    cache_dir: Path
    cache_size: int | None


def load_settings(cache_dir: Path | str | None = None, cache_size: int | str | None = None) -> Settings:
    """The settings of the cache.

    Each is the argument (a flag), else the environment variable, else the entry in the config file, else the default: the cache
    folder of the platform, and 20 GB. Raises SettingsError, which names the source of a value that cannot be used.
    """
    configured = _cache_table(config_file())
    directory = cache_dir or os.environ.get(DIRECTORY_VARIABLE) or configured.get("dir")
    size: int | str | None = configured.get("size", DEFAULT_SIZE)
    return Settings(_absolute(directory) if directory else _default_directory(), _cache_size(cache_size, size))


def load_model_memory(size: int | str | None = None) -> int | None:
    """How many bytes of loaded models stay in main memory: `size`, else the environment variable, else None (no setting).

    Raises SettingsError if the value cannot be used.
    """
    if size is not None:
        source = "the model memory"
    else:
        size, source = os.environ.get(MODEL_MEMORY_VARIABLE), MODEL_MEMORY_VARIABLE
    if size is None:
        return None
    try:
        limit = parse_size(size)
    except ValueError as error:
        raise SettingsError(f"[E401] {source} cannot be used: {error}") from None
    return sys.maxsize if limit is None else limit


def model_dirs() -> tuple[Path, ...]:
    """The user's folders of models, absolute: NODEGRAPH_MODELS, separated as in PATH, else `dirs` in [models] of the config file.

    Raises SettingsError if the config file cannot be used.
    """
    file = config_file()
    if text := os.environ.get(MODELS_VARIABLE):
        return tuple(_absolute(part, "folder of models") for part in text.split(os.pathsep) if part)
    dirs = _table(_read_config(file), "models", ("dirs",), file).get("dirs", [])
    if not isinstance(dirs, list) or not all(isinstance(part, str) for part in dirs):
        raise SettingsError(
            f"[E401] 'dirs' in {file} cannot be used: expected a list of paths, such as [\"~/models\"], found {described(dirs)}"
        )
    return tuple(_absolute(part, "folder of models", file.parent if file else None) for part in dirs)


def load_verify_share(share: float | str | None = None, name: str = "verify") -> float:
    """The share of cached results that a run checks: `share` (an argument called `name`), else the environment variable, else 0.

    Raises SettingsError unless it is a number from 0 to 1.
    """
    value = share
    if value is None:
        value, name = os.environ.get(VERIFY_VARIABLE, "").strip() or 0, VERIFY_VARIABLE
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not 0 <= number <= 1:  # NaN neither
        raise SettingsError(
            f"[E401] {name} cannot be used: expected the share of cached results to check, from 0 to 1, such as 0.01, "
            f"found {described(value)}"
        )
    return number


def load_stall_seconds() -> float | None:
    """After how many seconds without progress a run prints what its threads do: NODEGRAPH_STALL. None: never.

    Raises SettingsError unless it is a number of seconds from 0.1 to a day.
    """
    text = os.environ.get(STALL_VARIABLE, "").strip()
    if not text:
        return None
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0.1 <= seconds <= 86400:  # NaN neither
        raise SettingsError(
            f"[E401] {STALL_VARIABLE} cannot be used: expected a number of seconds from 0.1 to 86400, such as 60, found "
            f"{described(text)}"
        )
    return seconds


def config_file() -> Path | None:
    """The path of the config file, which may not exist. None if the user has no home folder."""
    import platformdirs

    try:
        folder = platformdirs.user_config_path("nodegraph", appauthor=False)
    except RuntimeError:
        return None
    return folder / "config.toml" if folder.is_absolute() else None


def parse_size(value: int | str) -> int | None:
    """Bytes from a number or from text such as "20 GB", "512 MiB" or "unlimited" (None). Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = str(value).strip().lower()
    if text == UNLIMITED:
        return None
    match = re.fullmatch(_SIZE, text)
    if isinstance(value, bool) or not match or match[2] not in _UNITS:
        raise ValueError(
            f"expected a number of bytes, a size such as '20 GB' or '512 MiB', or '{UNLIMITED}', found {described(value)}"
        )
    return round(float(match[1]) * _UNITS[match[2]])


def _cache_size(size: int | str | None, configured: Any) -> int | None:
    from_environment = os.environ.get(SIZE_VARIABLE)
    if size is not None:
        value, source = size, "the cache size"
    elif from_environment:
        value, source = from_environment, SIZE_VARIABLE
    else:
        value, source = configured, f"'size' in {config_file()}"
    try:
        return parse_size(value)
    except ValueError as error:
        raise SettingsError(f"[E401] {source} cannot be used: {error}") from None


def _default_directory() -> Path:
    import platformdirs

    try:
        folder = platformdirs.user_cache_path("nodegraph", appauthor=False)
    except RuntimeError:
        folder = Path()
    if not folder.is_absolute():
        raise SettingsError(
            f"[E401] there is no home folder, so there is no default cache folder. Set {DIRECTORY_VARIABLE}, or use --cache-dir"
        )
    return folder


def _absolute(directory: Path | str, name: str = "cache folder", base: Path | None = None) -> Path:
    """The path, absolute, so that it stays the same if the current directory changes. A relative one starts at `base`."""
    try:
        path = Path(directory).expanduser()
    except RuntimeError as error:
        raise SettingsError(f"[E401] the {name} {directory} cannot be used: {error}. Give its full path") from None
    return (path if base is None else base / path).absolute()


def _read_config(file: Path | None) -> dict[str, Any]:
    """The tables of the config file; empty if there is no file."""
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
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"[E401] the config file {file} is not valid TOML: {error}") from None
    _refuse_unknown(document, tuple(_TABLES), f"{file}")
    return document


def _table(document: Mapping[str, Any], name: str, known: tuple[str, ...], file: Path | None) -> dict[str, Any]:
    """A table of the config file, which has only `known` settings. Raises SettingsError for anything else."""
    table = document.get(name, {})
    if not isinstance(table, dict):
        raise SettingsError(f"[E401] '{name}' in {file} is not a table: expected {_TABLES[name]}, found {described(table)}")
    _refuse_unknown(table, known, f"[{name}] of {file}")
    return table


def _cache_table(file: Path | None) -> dict[str, Any]:
    """The table [cache] of the config file; empty if there is no file. `dir` is made absolute."""
    table = _table(_read_config(file), "cache", ("dir", "size"), file)
    if not isinstance(table.get("dir", ""), str):
        raise SettingsError(f"[E401] 'dir' in {file} cannot be used: expected a path in quotes, found {described(table['dir'])}")
    if table.get("dir") and file is not None:
        table["dir"] = file.parent / Path(table["dir"]).expanduser()
    return table


def _refuse_unknown(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in known:
            hint = did_you_mean(name, known) or f"Expected {' or '.join(known)}."
            raise SettingsError(f"[E401] '{name}' in {where} is not a setting. {hint}")
