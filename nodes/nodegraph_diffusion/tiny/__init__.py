"""The embedded model's weights, in diffusers' folder layout; README.md in this folder is their model card."""

import json
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent
"""The folder that `builtin:tiny` opens."""


@cache
def preview_map() -> dict[str, Any]:
    """The linear map from latents to colours, `weights` and `bias`, and its latents: `channels`, `factor`, `scaling_factor`."""
    record: dict[str, Any] = json.loads((FOLDER / "preview.json").read_text(encoding="utf-8"))
    return record
