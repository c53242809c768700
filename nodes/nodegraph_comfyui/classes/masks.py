"""Classes that make and change masks."""

from __future__ import annotations

from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.values import Value
from nodegraph_comfyui.classes.images import input_file
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.classes.renaming import renamed
from nodegraph_comfyui.reading.graph import shown

_CHANNELS: Final = {name: name for name in ("alpha", "red", "green", "blue")}
_ORDER: Final = ("invert", "threshold", "grow")
"""The changes of a Mask, in the order in which it makes them."""


def _load_mask(call: Call) -> Value:
    channel = call.choice("channel", _CHANNELS)
    return Value("MASK", call.add("Mask", "mask", path=input_file(call, "image"), channel=channel))


def _invert_mask(call: Call) -> Value:
    return _changed(call, "inverted", invert=True)


def _threshold(call: Call) -> Value:
    return _changed(call, "threshold", threshold=call["value"])


def _grow(call: Call) -> Value:
    if call.literal("expand") == 0:
        return Value("MASK", call.link("mask"))
    corners = "diamond" if call.literal("tapered_corners") else "square"
    return _changed(call, "grown", grow=call["expand"], corners=corners)


def _changed(call: Call, name: str, **change: Any) -> Value:
    """The mask after a change: in the node that made it, if that changes it in the same order, or in a node of its own."""
    link = call.link("mask")
    made, (first, *_) = call.step(link), change
    if made.type == "Mask" and not {*made.inputs} & {*_ORDER[_ORDER.index(first) :]}:
        return Value("MASK", call.add("Mask", name, **made.inputs, **change))
    return Value("MASK", call.add("Mask", name, mask=link, **change))


def _of_colour(call: Call) -> Value:
    colour = call.literal("color")
    if not 0 <= colour <= 0xFFFFFF:
        raise RefusedError(f"'color' is {shown(colour)}; expected a number from 0 to {0xFFFFFF}")
    return Value("MASK", call.add("ColourMask", "mask", image=call.link("image"), colour=f"#{int(colour):06x}"))


CLASSES: Final = (
    renamed("SolidMask", "SolidMask", "value:FLOAT=1.0 width:INT=512 height:INT=512", "SolidMask mask MASK"),
    renamed("CropMask", "CropMask", "mask:MASK x:INT=0 y:INT=0 width:INT=512 height:INT=512", "CropMask part MASK"),
    renamed(
        "FeatherMask",
        "FeatherMask",
        "mask:MASK left:INT=0 top:INT=0 right:INT=0 bottom:INT=0",
        "FeatherMask faded MASK",
    ),
    renamed(
        "MaskComposite",
        "MaskComposite",
        "destination:MASK>mask source:MASK>other x:INT=0 y:INT=0 operation:COMBO=multiply",
        "CombineMasks combined MASK",
    ),
    NodeClass(
        name="ImageColorToMask",
        title="ImageColorToMask",
        inputs="image:IMAGE color:INT=0",
        outputs=("MASK",),
        convert=_of_colour,
        here=("ColourMask",),
        renamed="`image`; color: `colour`, as `#rrggbb` or a name",
    ),
    renamed("MaskToImage", "Convert Mask to Image", "mask:MASK", "MaskToImage picture IMAGE"),
    NodeClass(
        name="LoadImageMask",
        title="Load Image (as Mask)",
        inputs="image:COMBO channel:COMBO=alpha",
        outputs=("MASK",),
        convert=_load_mask,
        here=("Mask",),
        renamed="image: `path`; `channel`",
        differs=(
            "white is repainted; `channel: alpha` is white where the file is transparent, as there "
            "([with a picture](pictures.md#what-a-mask-means))"
        ),
    ),
    renamed(
        "ImageToMask",
        "Convert Image to Mask",
        "image:IMAGE channel:COMBO=red",
        "Mask mask MASK",
        values={"channel": {name: name for name in ("red", "green", "blue")}},
    ),
    NodeClass(
        name="InvertMask",
        title="InvertMask",
        inputs="mask:MASK",
        outputs=("MASK",),
        convert=_invert_mask,
        here=("Mask",),
        renamed="`mask`, `invert: true`",
    ),
    NodeClass(
        name="ThresholdMask",
        title="ThresholdMask",
        inputs="mask:MASK value:FLOAT=0.5",
        outputs=("MASK",),
        convert=_threshold,
        here=("Mask",),
        renamed="`mask`; value: `threshold`",
        differs="a value that is equal to the threshold becomes white, not black",
    ),
    NodeClass(
        name="GrowMask",
        title="Grow Mask",
        inputs="mask:MASK expand:INT=0 tapered_corners:BOOLEAN=true",
        outputs=("MASK",),
        convert=_grow,
        here=("Mask",),
        renamed="`mask`; expand: `grow`; tapered_corners: `corners: diamond`, else `corners: square`",
        differs="`corners: round`, the default here, is a disc",
    ),
)
