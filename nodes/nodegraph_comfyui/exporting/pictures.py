"""How the node types that read and change pictures and masks are written."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from nodegraph_comfyui.exporting.graph import Export, InexpressibleError, Write, method_name, sides
from nodegraph_comfyui.exporting.models import file_name


def _resize(node: Export) -> None:
    method = node["method"]
    if method in ("bilinear", "bicubic") and node["antialias"]:
        node.note("ComfyUI resizes as 'antialias: false' does")
    inputs = {"image": node.slot("image"), "upscale_method": method_name(node)}
    if node["megapixels"] is not None:
        id = node.add("ImageScaleToTotalPixels", **inputs, megapixels=node["megapixels"])
    elif node["scale"] is not None:
        id = node.add("ImageScaleBy", **inputs, scale_by=node["scale"])
    else:
        id = node.add("ImageScale", **inputs, **sides(node))
    node.give(output=[id, 0])


def _load_image(node: Export) -> None:
    id = node.add("LoadImage", image=file_name(node, "path").removeprefix("input/"))
    node.give(image=[id, 0], mask=[id, 1])


def _mask(node: Export) -> None:
    node.require(blur=0)
    if node.inputs.get("path") is not None:
        channel = node["channel"]
        if channel == "luminance":
            raise InexpressibleError("'channel' is luminance; ComfyUI reads alpha, red, green or blue")
        found = [node.add("LoadImageMask", image=file_name(node, "path").removeprefix("input/"), channel=channel), 0]
    elif node.inputs.get("image") is not None:
        if node["channel"] == "luminance":
            raise InexpressibleError("'channel' is luminance; ComfyUI reads red, green or blue")
        found = [node.add("ImageToMask", image=node.slot("image"), channel=node["channel"]), 0]
    else:
        found = node.slot("mask")
    if node["invert"]:
        found = [node.add("InvertMask", mask=found), 0]
    if node["threshold"] is not None:
        found = [node.add("ThresholdMask", mask=found, value=node["threshold"]), 0]
    if node["grow"]:
        if node["corners"] == "round" or node["grow"] % 1:
            raise InexpressibleError("ComfyUI grows masks by whole pixels, with square or diamond 'corners'")
        found = [node.add("GrowMask", mask=found, expand=int(node["grow"]), tapered_corners=node["corners"] == "diamond"), 0]
    node.give(output=found)


def _composite(node: Export) -> None:
    node.note("ComfyUI has one class for Composite and Paste; it is imported again as Paste, which computes the same")
    links = {"destination": node.slot("original"), "source": node.slot("image"), "mask": node.slot("mask")}
    node.give(output=[node.add("ImageCompositeMasked", **links, x=0, y=0, resize_source=False), 0])


def _upscale(node: Export) -> None:
    node.require(tile=512, overlap=32)
    links = {"upscale_model": node.slot("upscaler"), "image": node.slot("image")}
    node.give(output=[node.add("ImageUpscaleWithModel", **links), 0])


def _colour_mask(node: Export) -> None:
    colour = node["colour"]
    if re.fullmatch(r"#[0-9a-fA-F]{6}", colour) is None:
        raise InexpressibleError(f"'colour' is {colour!r}; ComfyUI takes a number: write it as '#rrggbb'")
    node.give(output=[node.add("ImageColorToMask", image=node.slot("image"), color=int(colour[1:], 16)), 0])


PICTURES: Final[Mapping[str, Write]] = {
    "LoadImage": _load_image,
    "Mask": _mask,
    "ColourMask": _colour_mask,
    "Resize": _resize,
    "Composite": _composite,
    "Upscale": _upscale,
}
