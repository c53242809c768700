"""Where the cache lies and how large it may be: told by a flag, by the environment or by a file, in this order.

The file is `config.toml` in the user's configuration folder of this platform (`~/.config/nodegraph/` on Linux):

    [cache]
    dir = "~/big-disk/nodegraph"        # a relative path starts from the file's folder
    size = "50 GB"                      # or a number of bytes, or "unlimited"
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from nodegraph.errors import SettingsError
from nodegraph.text import did_you_mean

DIRECTORY_VARIABLE: Final = "NODEGRAPH_CACHE_DIR"
SIZE_VARIABLE: Final = "NODEGRAPH_CACHE_SIZE"
MODEL_MEMORY_VARIABLE: Final = "NODEGRAPH_MODEL_MEMORY"
DEFAULT_SIZE: Final = 20 * 10**9
UNLIMITED: Final = "unlimited"

_UNITS: Final[dict[str, int]] = {"": 1, "b": 1} | {
    prefix + end: base**power
    for power, prefix in enumerate("kmgt", start=1)
    for end, base in (("", 1000), ("b", 1000), ("ib", 1024))
}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([a-z]*)")


@dataclass(frozen=True)
class Settings:
    """Where the cache lies, and how many bytes it may hold; None: as many as there are."""

    cache_dir: Path
    cache_size: int | None


def load(cache_dir: Path | str | None = None, cache_size: int | str | None = None) -> Settings:
    """What is given here (by flags), else in the environment, else in the config file, else the platform's cache folder and 20 GB.

    Raises SettingsError, naming the place, if a setting cannot be used.
    """
    told = _configured(config_file())
    place = cache_dir or os.environ.get(DIRECTORY_VARIABLE) or told.get("dir")
    size: int | str | None = told.get("size", DEFAULT_SIZE)
    return Settings(Path(place).expanduser() if place else _default_directory(), _size(cache_size, size))


def load_model_memory(given: int | str | None = None) -> int | None:
    """How many bytes of loaded models stay in main memory: what is given, else what the environment says, else None: nobody said.

    Raises SettingsError if it cannot be used.
    """
    value, where = (
        (given, "the memory for models") if given is not None else (os.environ.get(MODEL_MEMORY_VARIABLE), MODEL_MEMORY_VARIABLE)
    )
    if value is None:
        return None
    try:
        size = parse_size(value)
    except ValueError as error:
        raise SettingsError(f"[E401] {where} cannot be used: {error}") from None
    return sys.maxsize if size is None else size


def config_file() -> Path:
    """The file that holds settings, whether it is there or not."""
    import platformdirs

    return platformdirs.user_config_path("nodegraph", appauthor=False) / "config.toml"


def parse_size(value: int | str) -> int | None:
    """Bytes from a number or from text such as "20 GB", "512 MiB" or "unlimited" (None). Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    text = str(value).strip().lower()
    if text == UNLIMITED:
        return None
    match = _SIZE.fullmatch(text)
    if isinstance(value, bool) or not match or match[2] not in _UNITS:
        raise ValueError(f"expected bytes, a size such as '20 GB' or '512 MiB', or '{UNLIMITED}', found '{value}'")
    return round(float(match[1]) * _UNITS[match[2]])


def _size(given: int | str | None, configured: Any) -> int | None:
    told = os.environ.get(SIZE_VARIABLE)
    value, where = (given, "the cache size") if given is not None else (told, SIZE_VARIABLE) if told else (configured, "'size'")
    try:
        return parse_size(value)
    except ValueError as error:
        file = f" in {config_file()}" if value is configured else ""
        raise SettingsError(f"[E401] {where}{file} cannot be used: {error}") from None


def _default_directory() -> Path:
    import platformdirs

    return platformdirs.user_cache_path("nodegraph", appauthor=False)


def _configured(file: Path) -> dict[str, Any]:
    """What the config file says of the cache; nothing where there is none."""
    try:
        text = file.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:
        raise SettingsError(f"[E401] the settings in {file} cannot be read: {error}") from None
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"[E401] {file} is not TOML: {error}") from None
    _refuse_unknown(document, ("cache",), f"{file}")
    told = document.get("cache", {})
    if not isinstance(told, dict):
        raise SettingsError(f"[E401] 'cache' in {file} is no table: expected [cache] with 'dir' and 'size', found {told!r}")
    _refuse_unknown(told, ("dir", "size"), f"[cache] of {file}")
    if not isinstance(told.get("dir", ""), str):
        raise SettingsError(f"[E401] 'dir' in {file} cannot be used: expected a path in quotes, found {told['dir']!r}")
    if told.get("dir"):
        told["dir"] = file.parent / Path(told["dir"]).expanduser()
    return told


def _refuse_unknown(table: Mapping[str, Any], known: tuple[str, ...], where: str) -> None:
    for name in table:
        if name not in known:
            hint = did_you_mean(name, known) or f"Expected {' or '.join(known)}."
            raise SettingsError(f"[E401] '{name}' in {where} is no setting. {hint}")
