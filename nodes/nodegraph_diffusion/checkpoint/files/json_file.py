"""JSON files beside weights: read within bounds, and refused with a reason."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nodegraph_diffusion.checkpoint.detect.configs import Json
from nodegraph_diffusion.checkpoint.errors import CheckpointError

T = TypeVar("T")

_MAX_BYTES = 10_000_000
_AS_SAVED = "Give the folder as `save_pretrained` of diffusers writes it."


def read_config(file: Path, read: Callable[[Json], T]) -> T:
    """What `read` makes of the config in `file`. Raises CheckpointError where it is none of Stable Diffusion's."""
    try:
        return read(read_json(file))
    except (ValueError, KeyError, TypeError, ArithmeticError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        hint = "Only the networks of Stable Diffusion 1, 2 and XL are supported."
        raise CheckpointError(file, expected="a config of Stable Diffusion", found=found, hint=hint) from error


def read_json(file: Path) -> Json:
    """The object in `file`. Raises CheckpointError for anything else, NaN and infinities included."""
    try:
        if file.exists() and not file.is_file():  # a pipe would be waited for
            raise CheckpointError(file, expected="a config", found="something that is no file", hint=_AS_SAVED)
        with file.open("rb") as stream:
            content = json.loads(stream.read(_MAX_BYTES), parse_constant=_finite, parse_float=_finite)
    except FileNotFoundError as error:
        raise CheckpointError(file, expected="a config", found="no file", hint=_AS_SAVED) from error
    except (OSError, ValueError, RecursionError) as error:
        hint = "Download or copy the file again."
        raise CheckpointError(file, expected="a JSON config", found=str(error), hint=hint) from error
    if not isinstance(content, dict):
        hint = "Download or copy the file again."
        raise CheckpointError(file, expected="a JSON object", found=type(content).__name__, hint=hint)
    return content


def _finite(text: str) -> float:
    """The number that JSON says, unless it is NaN or infinite, in words or by its size."""
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text}, which is no number")
    return number
