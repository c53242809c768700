"""Nodes through which a picture is a prompt: CLIP's image encoder, and the pooled conditioning of SDXL."""

from __future__ import annotations

from typing import Annotated, Literal

from nodegraph import Help, Range, Reads, Run, Seed, node
from nodegraph_diffusion.checkpoint import ImageEncoderFile
from nodegraph_nodes.models.find import find_image_encoder, notes_of
from nodegraph_nodes.models.opened_files import open_files
from nodegraph_nodes.models.parts import extra_network_on_demand, network_dtype
from nodegraph_nodes.nodes.outlines import passes
from nodegraph_nodes.types import Conditioning, Image, ImageEmbedding, ImageEncoder


@node("LoadImageEncoder", outline=passes(output="file"), foreign_names=("CLIPVisionLoader",))
def load_image_encoder(
    file: Annotated[
        ImageEncoderFile,
        Reads(find_image_encoder, by_content=True),
        Help("CLIP's image encoder: a file, a folder of transformers, or hf://organisation/name"),
    ],
    run: Run = Run(),
) -> ImageEncoder:
    """Open CLIP's image encoder."""
    for note in notes_of(file):
        run.notice(note)
    return ImageEncoder(file, open_files(file.files, run.digest))


@node("ImageEncode", numeric=True, foreign_names=("CLIPVisionEncode",))
def image_encode(
    image_encoder: ImageEncoder,
    image: Image,
    fit: Annotated[Literal["crop", "stretch"], Help("how a picture becomes square: cut around its centre, or stretched")] = "crop",
    run: Run = Run(),
) -> ImageEmbedding:
    """Encode what pictures show, for `ImageCondition`."""
    import torch

    from nodegraph_diffusion.checkpoint import load_image_encoder
    from nodegraph_diffusion.networks.clip import clip_pixels
    from nodegraph_diffusion.networks.shapes import count_numbers, vision_shapes

    file, device, dtype = image_encoder.file, run.device, network_dtype("image_encoder", run)
    size = count_numbers(vision_shapes(file.config))
    network = extra_network_on_demand(
        file, image_encoder.files, run, lambda: load_image_encoder(file, device, dtype), dtype=dtype, size=size
    ).get()
    pixels = clip_pixels(image.pixels.movedim(-1, 1), file.config.size, crop=fit == "crop")
    with torch.no_grad():
        values = network(pixels.to(device, dtype))
    return ImageEmbedding(values.float().cpu())


@node("ImageCondition", foreign_names=("unCLIPConditioning",))
def image_condition(
    conditioning: Conditioning,
    embedding: ImageEmbedding,
    strength: Annotated[float, Range(-10, 10), Help("factor for what the pictures show; 0 leaves them out")] = 1.0,
    noise: Annotated[float, Range(0, 1), Help("how vaguely the pictures are seen: 0 nearly exactly, 1 hardly at all")] = 0.0,
    seed: Annotated[Seed, Help("seed of that noise; as in ComfyUI, if it is the seed of the sampling")] = 0,
) -> Conditioning:
    """Use pictures as a prompt of SDXL, beside or instead of a text ("revision").

    The encoding of the pictures by OpenCLIP's bigG replaces the pooled encoding of the text. Of several, the sum is used: chain the
    nodes. For pictures without a text, give the output of `ZeroOut`.
    """
    import dataclasses

    from nodegraph_diffusion.conditioning.image_prompts import with_images

    if strength == 0:
        return conditioning
    width = embedding.values.shape[1]
    for prompt in conditioning.prompts:
        found = None if prompt.pooled is None else prompt.pooled.shape[1]
        if found != width:
            raise ValueError(
                f"conditioning: expected a prompt with a pooled encoding of {width} numbers, as the pictures have, found "
                f"{'none' if found is None else f'one of {found}'}. Give a prompt of SDXL, and pictures encoded by OpenCLIP's bigG"
            )
    prompts = (with_images(prompt, embedding.values, strength, noise, seed=seed) for prompt in conditioning.prompts)
    return dataclasses.replace(conditioning, prompts=tuple(prompts))
