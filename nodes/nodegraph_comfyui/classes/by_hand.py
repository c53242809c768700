"""Classes that the importer refuses, and that a person can write as nodes here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """A class, the node types to use, and the same explanations as in `NodeClass`."""

    name: str
    here: tuple[str, ...]
    renamed: str = ""
    differs: str = ""


BY_HAND: Final = (
    ByHand(
        name="LoadLatent",
        here=("LoadLatent",),
        renamed="latent: `path`",
        differs="reads `.safetensors` files that outputs of workflows are written to, not ComfyUI's `.latent`",
    ),
    ByHand(name="RebatchLatents", here=("Rebatch",), renamed="batch_size: `count`", differs="masks are not part of a latent"),
)
