"""All known classes, by name: the importer, the exporter and the page for ComfyUI's users are made from this table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from nodegraph_comfyui.classes import (
    conditioning,
    guidance,
    guides,
    images,
    latents,
    loaders,
    masks,
    primitives,
    samplers,
    sampling,
    sigmas,
)
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.reading.graph import Widget

TABLE: Final[Mapping[str, NodeClass]] = {
    found.name: found
    for group in (loaders, conditioning, guides, latents, images, masks, sampling, samplers, guidance, sigmas, primitives)
    for found in group.CLASSES
}


def widgets_of(kind: str) -> Sequence[Widget] | None:
    """The values of a class in the order of the editor's lists; None for a class that is not known."""
    return TABLE[kind].widgets if kind in TABLE else None
