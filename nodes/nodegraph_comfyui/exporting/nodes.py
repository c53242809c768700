"""How each of our node types is written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nodegraph_comfyui.exporting.graph import Write
from nodegraph_comfyui.exporting.latents import LATENTS
from nodegraph_comfyui.exporting.models import MODELS
from nodegraph_comfyui.exporting.pictures import PICTURES
from nodegraph_comfyui.exporting.prompts import PROMPTS
from nodegraph_comfyui.exporting.renamings import RENAMINGS
from nodegraph_comfyui.exporting.sampling import SAMPLING

WRITE: Final[Mapping[str, Write]] = {**RENAMINGS, **MODELS, **PROMPTS, **LATENTS, **PICTURES, **SAMPLING}
"""How each node type is written; those that are not here have no counterpart."""
