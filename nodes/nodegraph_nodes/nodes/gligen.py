"""Nodes that paint texts in boxes, through GLIGEN's layers."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Any, Literal

from nodegraph import Help, Range, Reads, Run, node
from nodegraph_diffusion.checkpoint import GligenFile, TextEncoders, UNetPart
from nodegraph_nodes.models.control_nets import ground
from nodegraph_nodes.models.find import find_gligen, notes_of
from nodegraph_nodes.models.opened_files import open_files
from nodegraph_nodes.models.text_encoders import load_readers
from nodegraph_nodes.nodes.outlines import mistakes, passes
from nodegraph_nodes.types import GligenLayers, TextEncoder, UNetModel

Side = Annotated[float, Range(0, 65536)]


@node("LoadGligen", outline=passes(output="file"), foreign_names=("GLIGENLoader",))
def load_gligen(
    file: Annotated[
        GligenFile,
        Reads(find_gligen, by_content=True),
        Help("GLIGEN's layers for texts in boxes: a file, or hf://organisation/name/file"),
    ],
    run: Run = Run(),
) -> GligenLayers:
    """Open GLIGEN's layers, which paint texts in boxes."""
    for note in notes_of(file):
        run.notice(note)
    return GligenLayers(file, open_files(file.files, run.digest))


def _check_family(gligen: object = None, unet: object = None, text_encoder: object = None, **_: Any) -> list[str]:
    if not isinstance(gligen, GligenFile):
        return []
    found = mistakes(partial(_require_blocks, gligen, unet)) if isinstance(unet, UNetPart) else []
    if isinstance(text_encoder, TextEncoders):
        found += mistakes(partial(_require_width, gligen, text_encoder.parts[0].config.width))
    return found


@node("ApplyGligen", numeric=True, check=_check_family, outline=passes(output="unet"), foreign_names=("GLIGENTextBoxApply",))
def apply_gligen(
    unet: UNetModel,
    gligen: GligenLayers,
    text_encoder: TextEncoder,
    text: Annotated[str, Help("what to paint in the box")],
    width: Side,
    height: Side,
    x: Annotated[Side, Help("distance from the left")] = 0.0,
    y: Annotated[Side, Help("distance from the top")] = 0.0,
    unit: Annotated[
        Literal["pixels", "fraction"], Help("of width, height, x and y; fraction: of the picture's sides, 0 to 1")
    ] = "pixels",
    run: Run = Run(),
) -> UNetModel:
    """Paint a text in a box, through GLIGEN's layers.

    The prompt still describes the whole picture, best with the same words. Chain the nodes for several boxes.
    """
    from nodegraph_diffusion.networks.gligen import TextBox
    from nodegraph_diffusion.text.encode import read_pooled

    _require_blocks(gligen.file, unet.part)
    _require_width(gligen.file, text_encoder.parts[0].config.width)
    embedding = read_pooled(load_readers(text_encoder, run)[0], text).cpu()
    box = TextBox(embedding=embedding, left=x, top=y, width=width, height=height, fraction=unit == "fraction")
    return ground(unet, gligen, box)


def _require_blocks(gligen: GligenFile, unet: UNetPart) -> None:
    """Raise ValueError unless the layers are for the transformer blocks of the UNet."""
    from nodegraph_diffusion.networks.shapes import transformer_widths

    widths = transformer_widths(unet.config)
    wrong = [name for name, width in gligen.config.blocks if widths.get(name) != width]
    if wrong:
        raise ValueError(
            f"gligen: expected layers for the {len(widths)} transformer blocks of this UNet, found {len(wrong)} that fit none, "
            f"such as {wrong[0]}. Give GLIGEN's layers for this family of models"
        )


def _require_width(gligen: GligenFile, width: int) -> None:
    """Raise ValueError unless the layers read texts of this width."""
    if gligen.config.text_width != width:
        raise ValueError(
            f"text_encoder: expected one of width {gligen.config.text_width}, whose texts GLIGEN's layers read, found {width}. "
            "Give the text encoder of the model that they were made for"
        )
