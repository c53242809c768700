"""Nodes that add small files to a model: each takes parts of a model and gives new ones, and the old ones stay as they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, NamedTuple

from nodegraph import File, Help, Range, Run, node
from nodegraph_nodes.types import Patch, TextEncoder, UNetModel

Strength = Annotated[float, Range(-10, 10)]


class Adapted(NamedTuple):
    """The parts of a model that an adapter file changes."""

    unet: UNetModel
    text_encoder: TextEncoder


@node("LoadLora")
def load_lora(
    unet: UNetModel,
    text_encoder: TextEncoder,
    file: Annotated[File, Help("a LoRA, LoHa, LoKr or DoRA, as .safetensors")],
    strength_unet: Annotated[Strength, Help("how much the change of the UNet counts; 0 is none")] = 1.0,
    strength_text: Annotated[Strength, Help("how much that of the text encoders counts")] = 1.0,
    run: Run = Run(),
) -> Adapted:
    """Put a LoRA, or one of its kin, on a model. Several follow each other."""
    import torch

    from nodegraph_diffusion.checkpoint import CheckpointError
    from nodegraph_diffusion.clip import CLIPTextModel
    from nodegraph_diffusion.lora.patch import read_lora, unmatched
    from nodegraph_diffusion.unet import UNet

    checkpoint = unet.checkpoint
    texts = text_encoder.checkpoint
    missing: list[str] = []
    try:
        lora = read_lora(file)
        with torch.device("meta"):
            missing += unmatched(lora, "unet", UNet(checkpoint.unet))
            for part, config in zip(texts.text_parts, texts.texts, strict=True):
                missing += unmatched(lora, part, CLIPTextModel(config))
    except CheckpointError as error:
        raise ValueError(str(error)) from error
    if missing:
        run.notice(f"{len(missing)} of what {file.name} changes is not in this model and is left out ({missing[0]}, ...)")
    return Adapted(
        replace(unet, patches=(*unet.patches, Patch.of(file, strength_unet))) if strength_unet else unet,
        replace(text_encoder, patches=(*text_encoder.patches, Patch.of(file, strength_text))) if strength_text else text_encoder,
    )
