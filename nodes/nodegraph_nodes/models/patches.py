"""LoRAs and similar files as patches of a model's networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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


def unused_tensors(file: LoraFile, unet: UNetModel, text_encoder: TextEncoder) -> list[str]:
    """A message for each kind of tensors of the file that do not change the model.

    Raises ValueError if it is for another family of models.
    """
    from nodegraph_diffusion.adapters.lora.patch import unmatched
    from nodegraph_diffusion.checkpoint.detect.lora import Unused
    from nodegraph_diffusion.checkpoint.load.blank_network import blank
    from nodegraph_diffusion.networks.clip import CLIPTextModel
    from nodegraph_diffusion.networks.unet import UNet

    unused = list(file.unused)
    with file_errors():
        missing = {"unet": unmatched(file, "unet", blank(UNet, unet.part.config))}
        for text in text_encoder.parts:
            missing[text.weights.part] = unmatched(file, text.weights.part, blank(CLIPTextModel, text.config))
    for part, changes in file.changes.items():
        if part not in missing:
            unused.append(Unused(f"they are for {part}, which this model does not have", _names(changes.values())))
        elif missing[part]:
            names = _names(changes[module] for module in missing[part])
            unused.append(Unused(f"their modules of {part} do not exist in this model", names))
    return [f"{file.path.name}: {file.describe_unused(part)}" for part in unused]


def _names(changes: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    return tuple(name for roles in changes for name in roles.values())
