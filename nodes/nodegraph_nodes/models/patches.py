"""LoRAs and similar files as patches of a model's networks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodegraph_nodes.model_files import Patch
from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.models.opened_files import Digest, is_unchanged, open_files
from nodegraph_nodes.types import TextEncoder, UNetModel

if TYPE_CHECKING:
    from nodegraph_diffusion.checkpoint import LoraFile


def open_patch(lora: LoraFile, strength: float, digest: Digest) -> Patch:
    """A patch with its files as they are now. Raises OSError if a file does not exist."""
    return Patch(lora=lora, files=open_files(lora.files, digest), strength=strength)


def require_unchanged_patch(patch: Patch, digest: Digest) -> None:
    """Raise ValueError if the files of a patch were changed since they were opened."""
    try:
        unchanged = all(is_unchanged(file, digest) for file in patch.files)
    except OSError:
        unchanged = False
    if not unchanged:
        raise ValueError(f"the file {patch.lora.path} was changed during the run. Run again")


def unmatched_modules(file: LoraFile, unet: UNetModel, text_encoder: TextEncoder) -> list[str]:
    """The modules that the file changes and the model does not have. Raises ValueError if it is for another family of models."""
    from nodegraph_diffusion.adapters.lora.patch import unmatched
    from nodegraph_diffusion.checkpoint.load.blank_network import blank
    from nodegraph_diffusion.networks.clip import CLIPTextModel
    from nodegraph_diffusion.networks.unet import UNet

    with file_errors():
        modules = unmatched(file, "unet", blank(UNet, unet.part.config))
        for text in text_encoder.parts:
            modules += unmatched(file, text.weights.part, blank(CLIPTextModel, text.config))
        return modules
