"""Classes that make and change masks."""

from __future__ import annotations

from typing import Final

from nodegraph_comfyui.building.call import Call
from nodegraph_comfyui.building.values import Value
from nodegraph_comfyui.classes.images import picture_file
from nodegraph_comfyui.classes.node_class import NodeClass

_CHANNELS: Final = {name: name for name in ("alpha", "red", "green", "blue")}


def _load_mask(call: Call) -> Value:
    channel = call.choice("channel", _CHANNELS)
    return Value("MASK", call.add("Mask", "mask", path=picture_file(call), channel=channel))


def _to_mask(call: Call) -> Value:
    channel = call.choice("channel", {name: name for name in ("red", "green", "blue")})
    return Value("MASK", call.add("Mask", "mask", image=call.link("image"), channel=channel))


def _invert_mask(call: Call) -> Value:
    return Value("MASK", call.add("Mask", "inverted", mask=call.link("mask"), invert=True))


def _threshold(call: Call) -> Value:
    return Value("MASK", call.add("Mask", "threshold", mask=call.link("mask"), threshold=call["value"]))


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
    NodeClass(
        name="ImageToMask",
        title="Convert Image to Mask",
        inputs="image:IMAGE channel:COMBO=red",
        outputs=("MASK",),
        convert=_to_mask,
        here=("Mask",),
        renamed="`image`; `channel`",
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
)
