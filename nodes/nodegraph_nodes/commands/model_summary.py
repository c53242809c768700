"""What a file or folder holds in a few words: for the list of the user's models."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from nodegraph_diffusion.checkpoint import ImageEncoderFile, OtherUpscalerFile, T2IAdapterFile, UpscalerFile
from nodegraph_diffusion.checkpoint.families import XL_SCALING_FACTOR
from nodegraph_diffusion.networks.config import VAEConfig
from nodegraph_nodes.models.errors import TAKEN_BY

if TYPE_CHECKING:
    from nodegraph_diffusion.checkpoint import Content, ControlNetFile, Description, EmbeddingFile, LoraFile, VAEPart
    from nodegraph_nodes.models.find import NetworkFile

_BY_WIDTH: Final = {768: "sd1", 1024: "sd2", 2048: "sdxl", 1280: "sdxl-refiner"}
"""The families, by the width of the prompts that their UNets attend to."""

_TAESD_FAMILIES: Final = {"sd": "sd1 or sd2", "sdxl": "sdxl", None: None}
"""The families whose latents a TAESD decodes, by the name in its path; shapes do not show it."""


def summary(description: Description) -> dict[str, object]:
    """What a file holds, its family, dtype, size in bytes and notes, and the node that takes it. Raises CheckpointError.

    The node is None for a TAESD, which only decodes previews.
    """
    from nodegraph_diffusion.checkpoint import UNetPart, VAEPart

    content = description.content
    if decodes_previews(description):
        taesd = description.taesd()
        return _facts("taesd", _TAESD_FAMILIES[taesd.space], description, (taesd.path,)) | {"notes": []}
    if content == "lora":
        found: LoraFile | ControlNetFile | EmbeddingFile = description.lora()
        family, files = _lora_family(description.lora()), description.lora().files
    elif content == "controlnet":
        found = description.controlnet()
        family, files = _BY_WIDTH.get(description.controlnet().config.context_dim), description.controlnet().files
    elif content in ("upscaler", "image_encoder", "t2i_adapter", "gligen"):
        network = description.extra_network(content)
        return _facts(content, _network_family(network), description, network.files) | {"notes": list(network.notes)}
    elif content == "embedding":
        found = description.embedding()
        family, files = _embedding_family(description.embedding()), (description.path,)
    else:
        part = description.model_or_part()
        if isinstance(part, VAEPart):
            kind = _vae_family(part)
        else:
            kind = part.config.receives if isinstance(part, UNetPart) and part.config.receives else part.kind
        return _facts(content or "model", kind, description, part.files) | {"notes": list(part.notes)}
    return _facts(content, family, description, files) | {"notes": list(getattr(found, "notes", ()))}


def decodes_previews(description: Description) -> bool:
    """Whether what is described is a TAESD's decoder, and nothing that a node takes."""
    from nodegraph_diffusion.checkpoint import CheckpointError

    return description.content is None and not isinstance(description.taesd_or_error["decoder"], CheckpointError)


def _facts(
    content: Content | Literal["taesd"], family: str | None, description: Description, files: tuple[Path, ...]
) -> dict[str, object]:
    return {
        "holds": content,
        "family": family,
        "dtype": _dtype(description),
        "bytes": sum(file.stat().st_size for file in files),
        "node": None if content == "taesd" else TAKEN_BY[content],
    }


def _dtype(description: Description) -> str:
    """The dtype of most of the numbers."""
    sizes: Counter[str] = Counter()
    for header in description.headers.read_so_far():
        for tensor in header.tensors.values():
            sizes[tensor.dtype] += tensor.size
    return max(sizes, key=lambda dtype: sizes[dtype]) if sizes else "-"


def _lora_family(lora: LoraFile) -> str | None:
    """The families that the changes fit; None if they fit none that was published."""
    from nodegraph_diffusion.adapters.lora.family import families

    return " or ".join(families(lora)) or None


def _network_family(network: NetworkFile) -> str | None:
    """The family whose latents, prompts or pooled encodings a network fits; None if it fits any, or none that was published."""
    if isinstance(network, OtherUpscalerFile):
        return None
    if isinstance(network, UpscalerFile):
        return f"{network.config.scale} times larger"
    if isinstance(network, ImageEncoderFile):
        return {768: "CLIP-L", 1024: "OpenCLIP-H", 1280: "OpenCLIP-bigG"}.get(network.config.projection)
    if isinstance(network, T2IAdapterFile):
        return "sd1 or sd2"
    return _BY_WIDTH.get(network.config.token_width)


def _vae_family(vae: VAEPart) -> str | None:
    """The families whose latents an autoencoder decodes, by its scaling factor if a config says it: shapes do not show it."""
    if vae.config.latent_channels != VAEConfig.latent_channels:
        return None
    if vae.config.scaling_factor == XL_SCALING_FACTOR:
        return "sdxl"
    return "sd1 or sd2" if len(vae.files) > 1 else "sd1, sd2 or sdxl"


def _embedding_family(embedding: EmbeddingFile) -> str | None:
    if len(embedding.shapes) > 1:
        return "sdxl"
    return _BY_WIDTH.get(next(iter(embedding.shapes.values()))[-1])
