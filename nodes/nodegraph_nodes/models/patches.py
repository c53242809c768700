"""LoRAs and similar files as patches of a model's networks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from nodegraph_diffusion.checkpoint import NAMES, CheckpointError
from nodegraph_nodes.model_files import Patch
from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.models.opened_files import Digest, is_unchanged, open_files

if TYPE_CHECKING:
    from nodegraph_diffusion.checkpoint import LoraFile, Part, TextPart, UNetPart


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


def unused_tensors(file: LoraFile, unet: UNetPart, texts: Sequence[TextPart]) -> list[str]:
    """A message for each kind of tensors of the file that do not change the model.

    Raises ValueError if it is for another family of models.
    """
    from nodegraph_diffusion.checkpoint.detect.lora import Unused

    unused, missing = list(file.unused), unmatched_modules(file, [unet, *texts])
    for part, changes in file.changes.items():
        if part not in missing:
            unused.append(Unused(f"they are for {part}, which this model does not have", _names(changes.values())))
        elif missing[part]:
            names = _names(changes[module] for module in missing[part])
            unused.append(Unused(f"their modules of {part} do not exist in this model", names))
    return [f"{file.path.name}: {file.describe_unused(part)}" for part in unused]


def unmatched_modules(file: LoraFile, parts: Iterable[UNetPart | TextPart]) -> dict[Part, list[str]]:
    """The modules that the file changes and that each of the parts of a model does not have.

    Raises ValueError if it is for another family of models.
    """
    from nodegraph_diffusion.adapters.lora.family import families
    from nodegraph_diffusion.adapters.lora.match import unmatched
    from nodegraph_diffusion.checkpoint.detect.lora import OTHER_FAMILY

    with file_errors():
        try:
            return {part.weights.part: unmatched(file, part.weights.part, part.config) for part in parts}
        except CheckpointError as error:
            made_for = " or ".join(NAMES[kind] for kind in families(file))
            if error.hint != OTHER_FAMILY or not made_for:
                raise
            hint = f"It was made for {made_for}; give one that was made for this model."
            raise CheckpointError(error.path, expected=error.expected, found=error.found, hint=hint) from error


def _names(changes: Iterable[Mapping[str, str]]) -> tuple[str, ...]:
    return tuple(name for roles in changes for name in roles.values())
