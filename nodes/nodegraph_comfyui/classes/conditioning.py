"""Classes that make and change prompts."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

from nodegraph_comfyui.building.call import Call, RefusedError, file_name
from nodegraph_comfyui.building.steps import Ref
from nodegraph_comfyui.building.values import Clip, Cond
from nodegraph_comfyui.classes.node_class import NodeClass
from nodegraph_comfyui.classes.renaming import renamed

_EMBEDDING: Final = re.compile(r"embedding:([^\s,:()]+)")


def _text(call: Call) -> Cond:
    clip = call.get("clip", Clip)
    text = call.setting("text")
    return Cond(link=_encoded(call, clip, [call.literal("text")], text=text))


def _encoded(call: Call, clip: Clip, texts: Sequence[str], **inputs: Any) -> Ref:
    return call.add("TextEncode", "prompt", text_encoder=with_embeddings(call, clip, *texts), clip_skip=clip.skip, **inputs)


def with_embeddings(call: Call, clip: Clip, *texts: str) -> Ref:
    """The text encoders, with the embeddings that texts name."""
    encoder = clip.encoder
    for word in dict.fromkeys(word for text in texts for word in _embeddings(text)):
        file = file_name(word)
        call.converted.files.append((call.node, "embeddings", file))
        encoder = call.add("LoadEmbedding", "_embedding", text_encoder=encoder, file=file, word=word)
    return encoder


def _embeddings(text: str) -> Iterator[str]:
    for found in _EMBEDDING.finditer(text):
        yield found[1]


def _last_layer(call: Call) -> Clip:
    layer = call.literal("stop_at_clip_layer")
    if layer >= 0:
        raise RefusedError(f"'stop_at_clip_layer' is {layer}; expected -1 or less")
    return dataclasses.replace(call.get("clip", Clip), skip=-layer)


def _sdxl(call: Call) -> Cond:
    clip = call.get("clip", Clip)
    first, second = call.setting("text_l", "text"), call.setting("text_g", "text_2")
    texts = [call.literal("text_l"), call.literal("text_g")]
    if texts[0] == texts[1]:
        link = _encoded(call, clip, texts[:1], text=first)
    else:
        link = _encoded(call, clip, texts, text=first, text_2=second)
    names = {"width": "width", "height": "height", "crop_x": "crop_w", "crop_y": "crop_h"}
    names |= {"target_width": "target_width", "target_height": "target_height"}
    return Cond(link=call.add("SizeCondition", "_size", conditioning=link, **{ours: call[name] for ours, name in names.items()}))


def _refiner(call: Call) -> Cond:
    link = _encoded(call, call.get("clip", Clip), [call.literal("text")], text=call.setting("text"))
    sizes = {"width": call["width"], "height": call["height"], "aesthetic": call["ascore"]}
    return Cond(link=call.add("SizeCondition", "_size", conditioning=link, **sizes))


_COMBINE: Final = renamed(
    "ConditioningCombine",
    "Conditioning (Combine)",
    "conditioning_1:CONDITIONING conditioning_2:CONDITIONING",
    "CombineConditioning combined CONDITIONING",
)


def _combine(call: Call) -> Cond:
    first, second = (call.get(name, Cond).area for name in ("conditioning_1", "conditioning_2"))
    joined: Cond = _COMBINE.convert(call)
    return dataclasses.replace(joined, area=first if first == second else "mixed")


def _area(call: Call) -> Cond:
    names = ("width", "height", "x", "y", "strength")
    return _with_area(call, call.get("conditioning", Cond), {name: call[name] for name in names})


def _area_in_percent(call: Call) -> Cond:
    names = ("width", "height", "x", "y", "strength")
    return _with_area(call, call.get("conditioning", Cond), {name: call[name] for name in names} | {"unit": "fraction"})


def _area_strength(call: Call) -> Cond:
    cond = call.get("conditioning", Cond)
    if cond.area == "mixed":
        raise RefusedError("its prompts have different areas: set the strength of each before they are combined in ComfyUI")
    whole = {"width": 1.0, "height": 1.0, "unit": "fraction"}
    return _with_area(call, cond, {**(cond.area or whole), "strength": call["strength"]})


def _with_area(call: Call, cond: Cond, inputs: dict[str, Any]) -> Cond:
    return dataclasses.replace(cond, link=call.add("SetArea", "area", conditioning=cond.link, **inputs), area=inputs)


CLASSES: Final = (
    NodeClass(
        name="CLIPTextEncode",
        title="CLIP Text Encode (Prompt)",
        inputs="text:STRING= clip:CLIP",
        outputs=("CONDITIONING",),
        convert=_text,
        here=("TextEncode",),
        renamed="clip: `text_encoder`; `text`",
        differs=(
            "[prompts](prompts.md): `syntax: a1111` reads weights, `[a:b:0.5]`, `[a\\|b]` and `AND` as A1111 does; `BREAK` starts "
            "a chunk"
        ),
    ),
    NodeClass(
        name="CLIPSetLastLayer",
        title="CLIP Set Last Layer",
        inputs="clip:CLIP stop_at_clip_layer:INT=-1",
        outputs=("CLIP",),
        convert=_last_layer,
        here=("TextEncode",),
        renamed="stop_at_clip_layer −2: `clip_skip: 2`",
        differs="an input, not a node",
    ),
    NodeClass(
        name="CLIPTextEncodeSDXL",
        title="CLIPTextEncodeSDXL",
        inputs=(
            "clip:CLIP width:INT=1024 height:INT=1024 crop_w:INT=0 crop_h:INT=0 target_width:INT=1024 target_height:INT=1024 "
            "text_g:STRING= text_l:STRING="
        ),
        outputs=("CONDITIONING",),
        convert=_sdxl,
        here=("TextEncode", "SizeCondition"),
        renamed="crop_w: `crop_x`; text_l: `text`; text_g: `text_2`",
        differs="without `SizeCondition`, the sizes are the output size",
    ),
    NodeClass(
        name="CLIPTextEncodeSDXLRefiner",
        title="CLIPTextEncodeSDXLRefiner",
        inputs="ascore:FLOAT=6.0 width:INT=1024 height:INT=1024 text:STRING= clip:CLIP",
        outputs=("CONDITIONING",),
        convert=_refiner,
        here=("TextEncode", "SizeCondition"),
        renamed="ascore: `aesthetic`",
    ),
    dataclasses.replace(_COMBINE, convert=_combine),
    renamed(
        "ConditioningConcat",
        "Conditioning (Concat)",
        "conditioning_to:CONDITIONING conditioning_from:CONDITIONING",
        "ConcatConditioning joined CONDITIONING",
    ),
    renamed(
        "ConditioningAverage",
        "Conditioning (Average)",
        "conditioning_to:CONDITIONING conditioning_from:CONDITIONING conditioning_to_strength:FLOAT=1.0",
        "AverageConditioning mixed CONDITIONING",
    ),
    NodeClass(
        name="ConditioningSetArea",
        title="Conditioning (Set Area)",
        inputs="conditioning:CONDITIONING width:INT=64 height:INT=64 x:INT=0 y:INT=0 strength:FLOAT=1.0",
        outputs=("CONDITIONING",),
        convert=_area,
        here=("SetArea",),
        renamed="`width`, `height`, `x`, `y`, `strength`",
    ),
    NodeClass(
        name="ConditioningSetAreaPercentage",
        title="Conditioning (Set Area with Percentage)",
        inputs="conditioning:CONDITIONING width:FLOAT=1.0 height:FLOAT=1.0 x:FLOAT=0.0 y:FLOAT=0.0 strength:FLOAT=1.0",
        outputs=("CONDITIONING",),
        convert=_area_in_percent,
        here=("SetArea",),
        renamed="`width`, `height`, `x`, `y`, `strength`",
        differs="percentages are `unit: fraction`",
    ),
    NodeClass(
        name="ConditioningSetAreaStrength",
        title="ConditioningSetAreaStrength",
        inputs="conditioning:CONDITIONING strength:FLOAT=1.0",
        outputs=("CONDITIONING",),
        convert=_area_strength,
        here=("SetArea",),
        renamed="`strength`",
    ),
    renamed(
        "ConditioningSetMask",
        "Conditioning (Set Mask)",
        "conditioning:CONDITIONING mask:MASK strength:FLOAT=1.0 set_cond_area:COMBO=default>mask_bounds",
        "SetMask masked CONDITIONING",
        values={"set_cond_area": {"default": False, "mask bounds": True}},
    ),
    renamed(
        "ConditioningSetTimestepRange",
        "ConditioningSetTimestepRange",
        "conditioning:CONDITIONING start:FLOAT=0.0 end:FLOAT=1.0",
        "SetRange range CONDITIONING",
    ),
    renamed("ConditioningZeroOut", "ConditioningZeroOut", "conditioning:CONDITIONING", "ZeroOut zero CONDITIONING"),
)
