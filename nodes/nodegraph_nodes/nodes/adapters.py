"""Nodes that add small files to a model: each takes parts of a model and gives new ones, and the old ones stay as they are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

from nodegraph import Help, Range, Reads, Resource, Run, node
from nodegraph.node_types.spec import under
from nodegraph_diffusion.checkpoint import CheckpointError, ControlNetFile, LoraFile, describe
from nodegraph_nodes.models.errors import refusal
from nodegraph_nodes.types import ControlNetModel, Image, Patch, TextEncoder, UNetModel

if TYPE_CHECKING:
    from nodegraph_diffusion.networks.controlnet import ControlNetGuide

Strength = Annotated[float, Range(-10, 10)]


class Adapted(NamedTuple):
    """The parts of a model that an adapter file changes."""

    unet: UNetModel
    text_encoder: TextEncoder


def find_lora(text: str, base: Path) -> Resource:
    """The adapter that `text` names, a file or a folder. Reads headers only. Raises ValueError for anything else."""
    try:
        found = describe(under(base, text)).lora()
    except CheckpointError as error:
        raise refusal(error) from error
    names = [file.name for file in found.files] if found.path.is_dir() else ["lora", "config"]
    return Resource(found, dict(zip(names, found.files, strict=False)))


def find_embedding(text: str, base: Path) -> Resource:
    """The textual inversion that `text` names. Reads its header only. Raises ValueError for anything else."""
    try:
        path = describe(under(base, text)).embedding().path
    except CheckpointError as error:
        raise refusal(error) from error
    return Resource(path, {"file": path})


@node("LoadLora", elsewhere=("LoraLoader", "LoraLoaderModelOnly"))
def load_lora(
    unet: UNetModel,
    text_encoder: TextEncoder,
    file: Annotated[LoraFile, Reads(find_lora), Help("a LoRA, LoHa, LoKr or DoRA: a file, or the folder of PEFT or diffusers")],
    strength_unet: Annotated[Strength, Help("how much the change of the UNet counts; 0 is none")] = 1.0,
    strength_text: Annotated[Strength, Help("how much that of the text encoders counts")] = 1.0,
    run: Run = Run(),
) -> Adapted:
    """Put a LoRA, or one of its kin, on a model. Several follow each other."""
    from nodegraph_diffusion.adapters.lora.patch import unmatched
    from nodegraph_diffusion.checkpoint.load.blank import blank
    from nodegraph_diffusion.networks.clip import CLIPTextModel
    from nodegraph_diffusion.networks.unet import UNet

    missing: list[str] = []
    try:
        missing += unmatched(file, "unet", blank(UNet, unet.part.config))
        for text in text_encoder.parts:
            missing += unmatched(file, text.weights.part, blank(CLIPTextModel, text.config))
    except CheckpointError as error:
        raise refusal(error) from error
    if missing:
        run.notice(f"{len(missing)} of what {file.path.name} changes is not in this model and is left out ({missing[0]}, ...)")
    return Adapted(
        replace(unet, patches=(*unet.patches, Patch.of(file, strength_unet))) if strength_unet else unet,
        replace(text_encoder, patches=(*text_encoder.patches, Patch.of(file, strength_text))) if strength_text else text_encoder,
    )


@node("LoadEmbedding")
def load_embedding(
    text_encoder: TextEncoder,
    file: Annotated[Path, Reads(find_embedding), Help("a textual inversion")],
    word: Annotated[str, Help("what it is called in prompts: embedding:WORD")],
) -> TextEncoder:
    """Let `embedding:WORD` in a prompt stand for a textual inversion's vectors."""
    from nodegraph_diffusion.text.inversion import read_inversion

    if not word or any(char.isspace() or char in ",:()" for char in word):
        raise ValueError(f"word: expected one without blanks, colons, commas and parentheses, found '{word}'")
    try:
        vectors = read_inversion(file, [text.config.width for text in text_encoder.parts])
    except CheckpointError as error:
        raise refusal(error) from error
    return replace(text_encoder, embeddings={**text_encoder.embeddings, word: vectors})


def find_control(text: str, base: Path) -> Resource:
    """The ControlNet that `text` names, a file or a diffusers folder. Reads headers only. Raises ValueError for anything else."""
    try:
        found = describe(under(base, text)).controlnet()
    except CheckpointError as error:
        raise refusal(error) from error
    return Resource(found, {file.name: file for file in found.files} if found.path.is_dir() else {"control": found.weights})


@node("LoadControlNet", elsewhere=("ControlNetLoader", "DiffControlNetLoader"))
def load_control_net(
    file: Annotated[ControlNetFile, Reads(find_control), Help("a file or a diffusers folder")],
    unet: Annotated[UNetModel | None, Help("for a file of differences: the UNet that they are from")] = None,
) -> ControlNetModel:
    """Open a ControlNet."""
    if file.difference and unet is None:
        raise ValueError(f"{file.path} holds differences from a UNet: give the UNet that it is for as 'unet'")
    return ControlNetModel.of(file, unet if file.difference else None)


@dataclass(frozen=True, eq=False)
class _Guided:
    """What `ApplyControlNet` adds to a UNet."""

    control_net: ControlNetModel
    image: Image
    strength: float
    start: float
    end: float

    def load(self, run: Run) -> ControlNetGuide:
        from nodegraph_diffusion.networks.controlnet import ControlNetGuide

        return ControlNetGuide(self.control_net.load(run), self.image.pixels, self.strength, self.start, self.end)


@node("ApplyControlNet", elsewhere=("ControlNetApply", "ControlNetApplyAdvanced"))
def apply_control_net(
    unet: UNetModel,
    control_net: ControlNetModel,
    image: Annotated[Image, Help("the hint: edges, depth, a pose, as the ControlNet was trained to see it")],
    strength: Annotated[float, Range(0, 10), Help("how much it counts; 0 is none")] = 1.0,
    start: Annotated[float, Range(0, 1), Help("the part of the sampling from which it counts")] = 0.0,
    end: Annotated[float, Range(0, 1), Help("the part of the sampling up to which it counts")] = 1.0,
) -> UNetModel:
    """Guide a UNet by a picture. Several ControlNets add up."""
    theirs, ours = control_net.file.config, unet.part.config
    if (theirs.context_dim, theirs.model_channels, theirs.channel_mult) != (
        ours.context_dim,
        ours.model_channels,
        ours.channel_mult,
    ):
        raise ValueError(
            f"control_net: expected one for a UNet of {ours.model_channels} channels and prompts of width {ours.context_dim}, "
            f"found one for {theirs.model_channels} and {theirs.context_dim}. Give one made for this family of models"
        )
    if strength == 0 or start >= end:
        return unet
    return replace(unet, controls=(*unet.controls, _Guided(control_net, image, strength, start, end)))
