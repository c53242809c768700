"""JSON files beside weights: read with limits, and refused with a reason."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from nodegraph_diffusion.checkpoint.errors import DOWNLOAD_AGAIN, CheckpointError

Json = dict[str, Any]

T = TypeVar("T")

_MAX_BYTES = 10_000_000
_AS_SAVED = "Give the folder as `save_pretrained` of diffusers writes it."


@dataclass(frozen=True, eq=False)
class ConfigFile:
    """A config and the file that it was read from."""

    path: Path
    content: Json

    def parse(self, read: Callable[[Json], T]) -> T:
        """The result of `read` on the config. Raises CheckpointError if `read` finds that it is not Stable Diffusion's."""
        try:
            return read(self.content)
        except (ValueError, KeyError, TypeError, ArithmeticError) as error:
            found = f"no {error}" if isinstance(error, KeyError) else str(error)
            hint = "Only the networks of Stable Diffusion 1, 2 and XL are supported."
            raise CheckpointError(self.path, expected="a config of Stable Diffusion", found=found, hint=hint) from error


def read_config(file: Path) -> ConfigFile:
    """The config in `file`. Raises CheckpointError as `read_json` does."""
    return ConfigFile(file, read_json(file))


def read_json(file: Path) -> Json:
    """The object in `file`. Raises CheckpointError for anything else, including NaN and infinities."""
    try:
        if file.exists() and not file.is_file():  # opening a pipe would wait for its other end
            raise CheckpointError(file, expected="a config", found="something that is not a file", hint=_AS_SAVED)
        with file.open("rb") as stream:
            content = json.loads(stream.read(_MAX_BYTES), parse_constant=_finite, parse_float=_finite)
    except FileNotFoundError as error:
        raise CheckpointError(file, expected="a config", found="no file", hint=_AS_SAVED) from error
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(file, expected="a JSON config", found=str(error), hint=DOWNLOAD_AGAIN) from error
    if not isinstance(content, dict):
        raise CheckpointError(file, expected="a JSON object", found=type(content).__name__, hint=DOWNLOAD_AGAIN)
    return content


def _finite(text: str) -> float:
    """The number in the text. Raises ValueError if it is NaN or infinite, by name or because it is too large."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text}, which is not a finite number")
    return number
