"""Classes that read, change and save pictures."""

from __future__ import annotations

import re
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Value
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.classes.renaming import renamed
from nodegraph_comfyui.reading.graph import shown

_METHODS: Final = {name: name for name in ("bilinear", "area", "bicubic", "lanczos")} | {"nearest-exact": "nearest"}
_FOLDER: Final = re.compile(r"\s*\[(input|output|temp)\]\s*$")
_DATES: Final = re.compile(r"%date(:[^%]*)?%")
_PLACEHOLDERS: Final = {"%year%": "", "%month%": "", "%day%": "", "%hour%": "", "%minute%": "", "%second%": ""}
_UNSAFE: Final = re.compile(r'[<>:"|?*\x00-\x1f\x7f]')


def _load(call: Call) -> tuple[Value, Value]:
    loaded = call.add("LoadImage", "picture", path=input_file(call, "image"))
    return Value("IMAGE", Ref(loaded.step, "image")), Value("MASK", Ref(loaded.step, "mask"))


def input_file(call: Call, name: str) -> Any:
    """The file that a node reads from the folder 'input'."""
    found = call.file(name, "input", name)
    marked = _FOLDER.search(found.value)
    if marked is not None and marked[1] != "input":
        raise RefusedError(f"it reads a file of ComfyUI's folder '{marked[1]}'. Copy it to 'input' first")
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
    renamed(
        "ImagePadForOutpaint",
        "Pad Image for Outpainting",
        "image:IMAGE left:INT=0 top:INT=0 right:INT=0 bottom:INT=0 feathering:INT=40>feather",
        "Pad padded image:IMAGE mask:MASK",
    ),
    renamed(
        "ImageCompositeMasked",
        "ImageCompositeMasked",
        "destination:IMAGE>original source:IMAGE>image x:INT=0 y:INT=0 resize_source:BOOLEAN=false>stretch mask:MASK?",
        "Paste pasted IMAGE",
        differs="`Composite` is for two pictures of one size",
    ),
    renamed("Canny", "Canny", "image:IMAGE low_threshold:FLOAT=0.4>low high_threshold:FLOAT=0.8>high", "Canny edges IMAGE"),
    renamed("RepeatImageBatch", "RepeatImageBatch", "image:IMAGE amount:INT=1>times", "RepeatImage repeated IMAGE"),
    renamed(
        "ImageFromBatch",
        "ImageFromBatch",
        "image:IMAGE batch_index:INT=0>index length:INT=1>count",
        "ImageFromBatch taken IMAGE",
        differs="too large a number is an error",
    ),
    renamed(
        "ImageUpscaleWithModel",
        "Upscale Image (using Model)",
        "upscale_model:UPSCALE_MODEL>upscaler image:IMAGE",
        "Upscale enlarged IMAGE",
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
