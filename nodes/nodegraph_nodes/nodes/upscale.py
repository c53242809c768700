"""Nodes that enlarge pictures with a network."""

from __future__ import annotations

from typing import Annotated

from nodegraph import Help, Range, Reads, Run, node
from nodegraph_diffusion.checkpoint import OtherUpscalerFile, UpscalerFile
from nodegraph_nodes.models.find import find_upscaler, notes_of
from nodegraph_nodes.models.opened_files import open_files
from nodegraph_nodes.models.parts import extra_network_on_demand, network_dtype
from nodegraph_nodes.nodes.outlines import passes
from nodegraph_nodes.types import Image, Upscaler


@node("LoadUpscaler", outline=passes(output="file"), foreign_names=("UpscaleModelLoader",))
def load_upscaler(
    file: Annotated[
        UpscalerFile | OtherUpscalerFile,
        Reads(find_upscaler, by_content=True),
        Help("an ESRGAN, BSRGAN, Real-ESRGAN or, with spandrel, another kind: a file, or hf://organisation/name/file"),
    ],
    run: Run = Run(),
) -> Upscaler:
    """Open a network that enlarges pictures.

    Other kinds, such as SwinIR, DAT, SPAN and Compact, are built by the library spandrel: pip install 'nodegraph[upscale]'.
    """
    for note in notes_of(file):
        run.notice(note)
    return Upscaler(file, open_files(file.files, run.digest))


@node("Upscale", numeric=True, foreign_names=("ImageUpscaleWithModel",))
def upscale(
    image: Image,
    upscaler: Upscaler,
    tile: Annotated[int, Range(64, 8192), Help("pixels along a side of the parts that are computed one by one")] = 512,
    overlap: Annotated[
        int, Range(0, 1024), Help("pixels that neighbouring parts share, over which they fade into each other")
    ] = 32,
    run: Run = Run(),
) -> Image:
    """Enlarge pictures with a network, which invents detail.

    Its file says how many times they become larger: `Resize` makes them smaller again.
    """
    import torch

    from nodegraph_diffusion.checkpoint import load_upscaler
    from nodegraph_diffusion.networks.shapes import count_numbers, upscaler_shapes
    from nodegraph_diffusion.tiles import tiled

    file, device, dtype = upscaler.file, run.device, network_dtype("upscaler", run)
    size = file.numbers if isinstance(file, OtherUpscalerFile) else count_numbers(upscaler_shapes(file.config))
    network = extra_network_on_demand(
        file, upscaler.files, run, lambda: load_upscaler(file, device, dtype), dtype=dtype, size=size
    ).get()
    planes = image.pixels.movedim(-1, 1)  # (B, 3, H, W)
    with torch.no_grad():
        enlarged = tiled(lambda part: network(part.to(device)), planes, tile, overlap, scale=network.scale, on_tile=run.step)
    return Image(enlarged.movedim(1, -1).clamp(0, 1).contiguous())
