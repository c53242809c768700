"""Classes that read, change and save pictures."""

from __future__ import annotations

import re
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Value
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.reading.graph import shown

_METHODS: Final = {name: name for name in ("bilinear", "area", "bicubic", "lanczos")} | {"nearest-exact": "nearest"}
_FOLDER: Final = re.compile(r"\s*\[(input|output|temp)\]\s*$")
_DATES: Final = re.compile(r"%date(:[^%]*)?%")
_PLACEHOLDERS: Final = {"%year%": "", "%month%": "", "%day%": "", "%hour%": "", "%minute%": "", "%second%": ""}
_UNSAFE: Final = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')


def _load(call: Call) -> tuple[Value, Value]:
    loaded = call.add("LoadImage", "picture", path=picture_file(call))
    return Value("IMAGE", Ref(loaded.step, "image")), Value("MASK", Ref(loaded.step, "mask"))


def picture_file(call: Call) -> Any:
    """The picture that a node reads from the folder 'input'."""
    found = call.file("image", "input", "image")
    marked = _FOLDER.search(found.value)
    if marked is not None and marked[1] != "input":
        raise RefusedError(f"it reads a picture of ComfyUI's folder '{marked[1]}'. Copy the picture to 'input' first")
    if marked is None:
        return found
    text = found.value[: marked.start()]
    call.converted.files[-1] = (call.node, "input", text)
    return type(found)(found.name, text, found.owner, found.title)


def _scale(call: Call) -> Value:
    width, height = call.literal("width"), call.literal("height")
    if width == 0 and height == 0:
        return Value("IMAGE", call.link("image"))
    crop = call.choice("crop", {"disabled": None, "center": True}) if width and height else None
    size: dict[str, Any] = {"width": call.setting("width") if width else None, "height": call.setting("height") if height else None}
    return _resized(call, **size, crop=crop)


def _scale_by(call: Call) -> Value:
    return _resized(call, scale=call["scale_by"])


def _resized(call: Call, **size: Any) -> Value:
    method = call.choice("upscale_method", _METHODS)
    if method in ("bilinear", "bicubic"):
        size["antialias"] = False
    return Value("IMAGE", call.add("Resize", "resized", image=call.link("image"), method=method, **size))


def _scale_to_megapixels(call: Call) -> Value:
    if call.literal("resolution_steps") != 1:
        raise RefusedError(f"'resolution_steps' is {call.literal('resolution_steps')}; here sides are not rounded to multiples")
    return _resized(call, megapixels=call["megapixels"])


def _pad(call: Call) -> tuple[Value, Value]:
    margins = {name: call[name] for name in ("left", "top", "right", "bottom")}
    padded = call.add("Pad", "padded", image=call.link("image"), **margins, feather=call["feathering"])
    return Value("IMAGE", Ref(padded.step, "image")), Value("MASK", Ref(padded.step, "mask"))


def _composite(call: Call) -> Value:
    if call.literal("x") or call.literal("y") or call.literal("resize_source"):
        raise RefusedError("it places a picture with 'x', 'y' or 'resize_source'; here both pictures have the same size")
    links = {"image": call.link("source"), "original": call.link("destination"), "mask": call.link("mask")}
    return Value("IMAGE", call.add("Composite", "composite", **links))


def _canny(call: Call) -> Value:
    return Value(
        "IMAGE", call.add("Canny", "edges", image=call.link("image"), low=call["low_threshold"], high=call["high_threshold"])
    )


def _upscale(call: Call) -> Value:
    return Value("IMAGE", call.add("Upscale", "enlarged", image=call.link("image"), upscaler=call.link("upscale_model")))


def _repeat(call: Call) -> Value:
    return Value("IMAGE", call.add("RepeatImage", "repeated", image=call.link("image"), times=call["amount"]))


def _take(call: Call) -> Value:
    taken = call.add("ImageFromBatch", "taken", image=call.link("image"), index=call["batch_index"], count=call["length"])
    return Value("IMAGE", taken)


def _save(call: Call) -> None:
    prefix = call.literal("filename_prefix")
    call.output("image", call.link("images"), f"{save_name(prefix)}.png")


def save_name(prefix: str) -> str:
    """The template of a file name for ComfyUI's prefix, whose dates become the date of the run."""
    text = prefix.replace("\\", "/").replace("{", "{{").replace("}", "}}")
    text = _DATES.sub("{date}", text)
    for placeholder in _PLACEHOLDERS:
        text = text.replace(placeholder, "{date}" if placeholder == "%year%" else "")
    text = _UNSAFE.sub("_", re.sub(r"%[\w.\- ]+%", "", text))
    if text.startswith("/") or ".." in text.split("/"):
        raise RefusedError(f"'filename_prefix' is {shown(prefix)}, which leads out of the output folder")
    parts = [part.strip(" .") for part in text.split("/")]
    return "/".join(part for part in parts if part) or "ComfyUI"


def _preview(call: Call) -> None:
    call.output("preview", call.link("images"), None)


CLASSES: Final = (
    NodeClass(
        name="LoadImage",
        title="Load Image",
        inputs="image:COMBO",
        outputs=("IMAGE", "MASK"),
        convert=_load,
        here=("LoadImage",),
        renamed="image: `path`",
        differs=(
            "colours are converted to sRGB by the picture's profile. The mask is white where the picture is transparent, as in "
            "ComfyUI"
        ),
    ),
    NodeClass(
        name="ImageScale",
        title="Upscale Image",
        inputs="image:IMAGE upscale_method:COMBO=nearest-exact width:INT=512 height:INT=512 crop:COMBO=disabled",
        outputs=("IMAGE",),
        convert=_scale,
        here=("Resize",),
        renamed="upscale_method: `method`; crop center: `crop: true`",
        differs="nearest-exact is `nearest`. For bilinear and bicubic write `antialias: false`",
    ),
    NodeClass(
        name="ImageScaleBy",
        title="Upscale Image By",
        inputs="image:IMAGE upscale_method:COMBO=nearest-exact scale_by:FLOAT=1.0",
        outputs=("IMAGE",),
        convert=_scale_by,
        here=("Resize",),
        renamed="upscale_method: `method`; scale_by: `scale`",
    ),
    NodeClass(
        name="ImageScaleToTotalPixels",
        title="Scale Image to Total Pixels",
        inputs="image:IMAGE upscale_method:COMBO=nearest-exact megapixels:FLOAT=1.0 resolution_steps:INT=1",
        outputs=("IMAGE",),
        convert=_scale_to_megapixels,
        here=("Resize",),
        renamed="upscale_method: `method`; `megapixels`",
    ),
    NodeClass(
        name="ImagePadForOutpaint",
        title="Pad Image for Outpainting",
        inputs="image:IMAGE left:INT=0 top:INT=0 right:INT=0 bottom:INT=0 feathering:INT=40",
        outputs=("IMAGE", "MASK"),
        convert=_pad,
        here=("Pad",),
        renamed="`left`, `top`, `right`, `bottom`; feathering: `feather`",
    ),
    NodeClass(
        name="ImageCompositeMasked",
        title="ImageCompositeMasked",
        inputs="destination:IMAGE source:IMAGE x:INT=0 y:INT=0 resize_source:BOOLEAN=false mask:MASK?",
        outputs=("IMAGE",),
        convert=_composite,
        here=("Composite",),
        renamed="destination: `original`; source: `image`; `mask`",
        differs="both pictures have the same size, and there is a mask: with x or y, graphs are not imported",
    ),
    NodeClass(
        name="Canny",
        title="Canny",
        inputs="image:IMAGE low_threshold:FLOAT=0.4 high_threshold:FLOAT=0.8",
        outputs=("IMAGE",),
        convert=_canny,
        here=("Canny",),
        renamed="low_threshold, high_threshold: `low`, `high`",
    ),
    NodeClass(
        name="RepeatImageBatch",
        title="RepeatImageBatch",
        inputs="image:IMAGE amount:INT=1",
        outputs=("IMAGE",),
        convert=_repeat,
        here=("RepeatImage",),
        renamed="amount: `times`",
    ),
    NodeClass(
        name="ImageFromBatch",
        title="ImageFromBatch",
        inputs="image:IMAGE batch_index:INT=0 length:INT=1",
        outputs=("IMAGE",),
        convert=_take,
        here=("ImageFromBatch",),
        renamed="batch_index: `index`; length: `count`",
        differs="too large a number is an error",
    ),
    NodeClass(
        name="ImageUpscaleWithModel",
        title="Upscale Image (using Model)",
        inputs="upscale_model:UPSCALE_MODEL image:IMAGE",
        outputs=("IMAGE",),
        convert=_upscale,
        here=("Upscale",),
        renamed="upscale_model: `upscaler`; `image`",
        differs="tiles of 512 pixels that overlap by 32, as in ComfyUI: `tile`, `overlap`",
    ),
    NodeClass(
        name="SaveImage",
        title="Save Image",
        inputs="images:IMAGE filename_prefix:STRING=ComfyUI",
        convert=_save,
        renamed="`outputs:` of the workflow",
        differs="as PNG, JPEG or WebP",
        is_end=True,
    ),
    NodeClass(
        name="PreviewImage",
        title="Preview Image",
        inputs="images:IMAGE",
        convert=_preview,
        renamed="`outputs:` of the workflow, without a file if others have one",
        is_end=True,
    ),
)
