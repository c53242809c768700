"""Classes that make and change masks."""

from __future__ import annotations

from typing import Any, Final

from nodegraph_comfyui.building.call import Call
from nodegraph_comfyui.building.values import Value
from nodegraph_comfyui.classes.images import input_file
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.classes.renaming import renamed

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


CLASSES: Final = (
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
