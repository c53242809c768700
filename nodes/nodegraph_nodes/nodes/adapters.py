"""Nodes that add adapter files to a model. Each returns changed parts and leaves those that it received unchanged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, NamedTuple

from nodegraph import Help, Range, Reads, Run, node
from nodegraph_diffusion.checkpoint import (
    ControlNetFile,
    EmbeddingFile,
    LoraFile,
    T2IAdapterFile,
    TextEncoders,
    TextPart,
    UNetPart,
)
from nodegraph_diffusion.checkpoint.detect.embedding import require_widths, require_widths_of_words
from nodegraph_nodes.model_files import Patch
from nodegraph_nodes.models.control_nets import open_control_net
from nodegraph_nodes.models.errors import file_errors
from nodegraph_nodes.models.find import find_control_net, find_embedding, find_lora, notes_of
from nodegraph_nodes.models.patches import open_patch, unmatched_modules, unused_tensors
from nodegraph_nodes.nodes.outlines import mistakes, passes
from nodegraph_nodes.trained.files import embedding_file, lora_file, lora_patch
from nodegraph_nodes.types import Control, ControlNetModel, Image, TextEncoder, TrainedEmbedding, TrainedLora, UNetModel

Strength = Annotated[float, Range(-10, 10)]


class Adapted(NamedTuple):
    """The parts of a model that a LoRA changes."""

    unet: UNetModel
    text_encoder: TextEncoder


def _check_lora(**known: Any) -> list[str]:
    file, unet, text = known.get("file"), known.get("unet"), known.get("text_encoder")
    texts = text.parts if isinstance(text, TextEncoders) else ()
    if not isinstance(file, LoraFile):
        return []

    def require_same_family() -> None:
        unmatched_modules(file, [unet, *texts] if isinstance(unet, UNetPart) else texts)
        if texts:
            with file_errors():
                require_widths_of_words(file, _widths(texts))

    return mistakes(require_same_family, "file ")


@node(
    "LoadLora",
    check=_check_lora,
    outline=passes(unet="unet", text_encoder="text_encoder"),
    foreign_names=("LoraLoader", "LoraLoaderModelOnly"),
)
def load_lora(
    unet: UNetModel,
    text_encoder: TextEncoder,
    file: Annotated[
        LoraFile | TrainedLora,
        Reads(find_lora, by_content=True),
        Help("a file, a folder written by PEFT or diffusers, hf://organisation/name, or the result of TrainLora"),
    ],
    strength_unet: Annotated[Strength, Help("factor for the changes to the UNet; 0 leaves it unchanged")] = 1.0,
    strength_text: Annotated[Strength, Help("factor for the changes to the text encoders; 0 leaves their weights unchanged")] = 1.0,
    run: Run = Run(),
) -> Adapted:
    """Apply a LoRA, LoHa, LoKr, DoRA, GLoRA, OFT, BOFT or IA3 to a model.

    Embeddings in the file become words of prompts, embedding:WORD. To apply several files, chain the nodes.
    """
    lora = lora_file(file)
    for message in unused_tensors(lora, unet.part, text_encoder.parts):
        run.notice(message)

    def patch(strength: float) -> Patch:
        return lora_patch(file, strength) if isinstance(file, TrainedLora) else open_patch(file, strength, run.digest)

    if strength_unet:
        unet = replace(unet, patches=(*unet.patches, patch(strength_unet)))
    if strength_text:
        text_encoder = replace(text_encoder, patches=(*text_encoder.patches, patch(strength_text)))
    if lora.embeddings:
        from nodegraph_diffusion.text.inversion import read_bundled

        with file_errors():
            words = read_bundled(lora, _widths(text_encoder.parts))
        text_encoder = replace(text_encoder, embeddings={**text_encoder.embeddings, **words})
    return Adapted(unet, text_encoder)


def _widths(texts: Iterable[TextPart]) -> list[int]:
    return [part.config.width for part in texts]


def _check_embedding(file: object = None, text_encoder: object = None, **_: Any) -> list[str]:
    if not isinstance(file, EmbeddingFile) or not isinstance(text_encoder, TextEncoders):
        return []

    def require_same_family() -> None:
        with file_errors():
            require_widths(file.path, file.shapes, _widths(text_encoder.parts))

    return mistakes(require_same_family, "file ")


@node("LoadEmbedding", check=_check_embedding, outline=passes(output="text_encoder"))
def load_embedding(
    text_encoder: TextEncoder,
    file: Annotated[
        EmbeddingFile | TrainedEmbedding,
        Reads(find_embedding, by_content=True),
        Help("a textual inversion, hf://organisation/name, or the result of TrainTextualInversion"),
    ],
    word: Annotated[str, Help("its name in prompts: embedding:WORD")],
) -> TextEncoder:
    """Make a textual inversion available in prompts, as `embedding:WORD`."""
    from nodegraph_diffusion.text.inversion import read_inversion

    if not word or any(char.isspace() or char in ",:()" for char in word):
        raise ValueError(
            f"word: expected a word without spaces, commas, colons and parentheses, found '{word}'. Choose another word"
        )
    with file_errors():
        vectors = read_inversion(embedding_file(file), _widths(text_encoder.parts))
    return replace(text_encoder, embeddings={**text_encoder.embeddings, word: vectors})


def _check_base(file: object = None, **known: Any) -> list[str]:
    if isinstance(file, ControlNetFile) and "unet" in known:
        return mistakes(partial(_require_base, file, known["unet"]))
    return []


@node(
    "LoadControlNet",
    check=_check_base,
    outline=passes(output="file"),
    foreign_names=("ControlNetLoader", "DiffControlNetLoader"),
)
def load_control_net(
    file: Annotated[
        ControlNetFile | T2IAdapterFile,
        Reads(find_control_net, by_content=True),
        Help("a ControlNet or a T2I-Adapter: a file, a diffusers folder, or hf://organisation/name"),
    ],
    unet: Annotated[UNetModel | None, Help("only for a file of differences from a UNet: that UNet")] = None,
    global_pool: Annotated[
        bool | None,
        Help("use the mean of each map of residuals, as ControlNet 1.1's 'shuffle' was trained; default: as its config says"),
    ] = None,
    run: Run = Run(),
) -> ControlNetModel:
    """Open a ControlNet or a T2I-Adapter."""
    for note in notes_of(file):
        run.notice(note)
    if isinstance(file, T2IAdapterFile):
        if global_pool is not None:
            raise ValueError("global_pool: expected nothing for a T2I-Adapter, which has no residuals to average. Leave it out")
        return open_control_net(file, run.digest)
    if global_pool is not None:
        file = replace(file, global_pool=global_pool)
    elif file.config_file is None and "shuffle" in file.path.name.lower():
        run.notice(f"{file.path.name}: if this is ControlNet 1.1's shuffle, give global_pool: true; the file does not say it")
    _require_base(file, unet)
    return open_control_net(file, run.digest, unet if unet is not None and file.difference else None)


def _require_base(file: ControlNetFile, unet: object) -> None:
    """Raise ValueError if the file holds differences from a UNet, and none is given."""
    if file.difference and unet is None:
        raise ValueError(f"file {file.path} holds differences from a UNet. Give the UNet that it was made for as 'unet'")


def _listed(widths: Iterable[int]) -> str:
    return ", ".join(map(str, widths))


def _check_family(unet: object = None, control_net: object = None, **_: Any) -> list[str]:
    if isinstance(unet, UNetPart) and isinstance(control_net, ControlNetFile | T2IAdapterFile):
        return mistakes(partial(_require_same_family, control_net, unet))
    return []


@node(
    "ApplyControlNet",
    check=_check_family,
    outline=passes(output="unet"),
    foreign_names=("ControlNetApply", "ControlNetApplyAdvanced"),
)
def apply_control_net(
    unet: UNetModel,
    control_net: ControlNetModel,
    image: Annotated[Image, Help("the kind of picture that the ControlNet was trained on: edges, depth, a pose and similar")],
    strength: Annotated[float, Range(0, 10), Help("factor for the guidance; 0 turns it off")] = 1.0,
    start: Annotated[float, Range(0, 1), Help("fraction of the sampling at which the guidance starts")] = 0.0,
    end: Annotated[float, Range(0, 1), Help("fraction of the sampling at which the guidance ends")] = 1.0,
) -> UNetModel:
    """Guide a UNet by a picture, through a ControlNet or a T2I-Adapter.

    The effects of several of them add up.
    """
    _require_same_family(control_net.file, unet.part)
    if strength == 0 or start >= end:
        return unet
    blocks = unet.part.config.num_res_blocks
    control = Control(control_net=control_net, image=image, strength=strength, start=start, end=end, blocks=blocks)
    return replace(unet, controls=(*unet.controls, control))


def _require_same_family(control_net: ControlNetFile | T2IAdapterFile, unet: UNetPart) -> None:
    """Raise ValueError if the ControlNet or T2I-Adapter was made for UNets of other sizes."""
    if isinstance(control_net, T2IAdapterFile):
        widths = tuple(mult * unet.config.model_channels for mult in unet.config.channel_mult)
        if control_net.config.channels != widths:
            raise ValueError(
                f"control_net: expected a T2I-Adapter for a UNet of {_listed(widths)} channels, found one for "
                f"{_listed(control_net.config.channels)}. Give one made for this family of models"
            )
        return
    found, expected = control_net.config, unet.config
    if any(getattr(found, size) != getattr(expected, size) for size in ("context_dim", "model_channels", "channel_mult")):
        raise ValueError(
            f"control_net: expected one for a UNet of {expected.model_channels} channels and prompts of width "
            f"{expected.context_dim}, found one for {found.model_channels} and {found.context_dim}. "
            f"Give one made for this family of models"
        )
