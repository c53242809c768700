"""How the node types that make and change prompts are written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from nodegraph_comfyui.exporting.graph import Export, InexpressibleError, Text, Write


def _text(node: Export) -> None:
    node.require(syntax="comfyui")
    clip = node.slot("text_encoder")
    if node["clip_skip"] is not None:
        clip = [node.add("CLIPSetLastLayer", f"{node.name} layer", clip=clip, stop_at_clip_layer=-node["clip_skip"]), 0]
    node.give(output=Text(name=node.name, clip=clip, text=node["text"], text_2=node["text_2"]))


def _sizes(node: Export) -> None:
    prompt = node.linked("conditioning")
    if not isinstance(prompt, Text):
        raise InexpressibleError("ComfyUI takes sizes only with the texts: put it right behind TextEncode")
    sizes = {there: node[here] for here, there in _SIZES.items()}
    if node["aesthetic"] is not None:
        node.require(crop_x=0, crop_y=0, target_width=None, target_height=None)
        if prompt.text_2 is not None:
            raise InexpressibleError("ComfyUI's node for SDXL's refiner has one text")
        inputs = {"ascore": node["aesthetic"], "text": prompt.text} | {name: sizes[name] for name in ("width", "height")}
    else:
        inputs = {**sizes, "text_l": prompt.text, "text_g": prompt.text if prompt.text_2 is None else prompt.text_2}
    if missing := [name for name in inputs if inputs[name] is None]:
        raise InexpressibleError(f"ComfyUI has no default of {' and '.join(missing)}: give numbers")
    kind = "CLIPTextEncodeSDXLRefiner" if "ascore" in inputs else "CLIPTextEncodeSDXL"
    node.give(output=[node.add(kind, clip=prompt.clip, **inputs), 0])


def _area(node: Export) -> None:
    kind = "ConditioningSetArea" if node["unit"] == "pixels" else "ConditioningSetAreaPercentage"
    numbers = {name: int(node[name]) if node["unit"] == "pixels" else node[name] for name in ("width", "height", "x", "y")}
    node.give(output=[node.add(kind, conditioning=node.slot("conditioning"), **numbers, strength=node["strength"]), 0])


def _pictures(node: Export) -> None:
    links = {"conditioning": node.slot("conditioning"), "clip_vision_output": node.slot("embedding")}
    numbers = {"strength": node["strength"], "noise_augmentation": node["noise"]}
    node.give(output=[node.add("unCLIPConditioning", **links, **numbers), 0])
    node.written.seeds[node.name] = node.seeds | {node["seed"]}


_SIZES: Final = {"width": "width", "height": "height", "crop_x": "crop_w", "crop_y": "crop_h"} | {
    name: name for name in ("target_width", "target_height")
}
PROMPTS: Final[Mapping[str, Write]] = {
    "TextEncode": _text,
    "SizeCondition": _sizes,
    "SetArea": _area,
    "ImageCondition": _pictures,
}
