"""JSON files beside weights: read within bounds, and refused with a reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from nodegraph_diffusion.checkpoint.configs import Json
from nodegraph_diffusion.checkpoint.errors import CheckpointError

T = TypeVar("T")

_MAX_BYTES = 10_000_000


def read_config(file: Path, read: Callable[[Json], T]) -> T:
    """What `read` makes of the config in `file`. Raises CheckpointError where it is none of Stable Diffusion's."""
    try:
        return read(read_json(file))
    except (ValueError, KeyError, TypeError) as error:
        found = f"no {error}" if isinstance(error, KeyError) else str(error)
        hint = "Only the networks of Stable Diffusion 1, 2 and XL are supported."
        raise CheckpointError(file, expected="a config of Stable Diffusion", found=found, hint=hint) from error


def read_json(file: Path) -> Json:
    """The object in `file`. Raises CheckpointError where there is none."""
    try:
        with file.open("rb") as stream:
            content = json.loads(stream.read(_MAX_BYTES))
    except FileNotFoundError as error:
        hint = "Give the folder as `save_pretrained` of diffusers writes it."
        raise CheckpointError(file, expected="a config", found="no file", hint=hint) from error
    except (OSError, ValueError, RecursionError) as error:
        hint = "Download or copy the file again."
        raise CheckpointError(file, expected="a JSON config", found=str(error), hint=hint) from error
    if not isinstance(content, dict):
        hint = "Download or copy the file again."
        raise CheckpointError(file, expected="a JSON object", found=type(content).__name__, hint=hint)
    return content
