"""The 24 templates of ComfyUI that the pack for its graphs promises to run, and what is needed to run them here.

What is known of ComfyUI's classes is written down again, apart from the importer.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from tests.support.comfy_graphs import ORDER as COMMON

PICTURE = (600, 400)
"""Width and height of the pictures that templates read here."""

Editor = dict[str, Any]
Sizes = list[tuple[int, int]]

_FILES = {
    "CheckpointLoaderSimple": "checkpoints",
    "VAELoader": "vae",
    "LoraLoader": "loras",
    "ControlNetLoader": "controlnet",
    "UpscaleModelLoader": "upscale_models",
    "GLIGENLoader": "gligen",
    "CLIPVisionLoader": "clip_vision",
}
_ORDER = COMMON | {
    **{name: [field] for name, field in (("VAELoader", "vae_name"), ("ControlNetLoader", "control_net_name"))},
    **{name: [field] for name, field in (("UpscaleModelLoader", "model_name"), ("GLIGENLoader", "gligen_name"))},
    "CLIPVisionLoader": ["clip_name"],
    "CLIPSetLastLayer": ["stop_at_clip_layer"],
    "CLIPVisionEncode": ["crop"],
    "Canny": ["low_threshold", "high_threshold"],
    "ConditioningCombine": [],
    "ConditioningSetArea": ["width", "height", "x", "y", "strength"],
    "ConditioningZeroOut": [],
    "ControlNetApplyAdvanced": ["strength", "start_percent", "end_percent"],
    "GLIGENTextBoxApply": ["text", "width", "height", "x", "y"],
    "ImagePadForOutpaint": ["left", "top", "right", "bottom", "feathering"],
    "ImageScale": ["upscale_method", "width", "height", "crop"],
    "ImageScaleToTotalPixels": ["upscale_method", "megapixels"],
    "ImageUpscaleWithModel": [],
    "KSamplerAdvanced": [
        *("add_noise", "noise_seed", "*", "steps", "cfg", "sampler_name", "scheduler"),
        *("start_at_step", "end_at_step", "return_with_leftover_noise"),
    ],
    "KSamplerSelect": ["sampler_name"],
    "LatentUpscale": ["upscale_method", "width", "height", "crop"],
    "LatentUpscaleBy": ["upscale_method", "scale_by"],
    "PreviewImage": [],
    "SDTurboScheduler": ["steps", "denoise"],
    "SamplerCustom": ["add_noise", "noise_seed", "*", "cfg"],
    "VAEEncode": [],
    "VAEEncodeForInpaint": ["grow_mask_by"],
    "unCLIPConditioning": ["strength", "noise_augmentation"],
}
"""The values of each class in the order of the editor's lists; `*` is a value of the editor itself."""

_ONLY_IN_THE_EDITOR = ("Note", "MarkdownNote", "PrimitiveNode", "Reroute")
_MUTED, _BYPASSED = 2, 4
_LENGTHS = {
    "EmptyLatentImage": (0, 1),
    "LatentUpscale": (1, 2),
    "ImageScale": (1, 2),
    "ConditioningSetArea": (0, 1, 2, 3),
    "GLIGENTextBoxApply": (1, 2, 3, 4),
    "ImagePadForOutpaint": (0, 1, 2, 3),
}
"""Where the values of a class are lengths in pixels."""


def folder(package: str) -> Path:
    """The graphs of a package that is only installed for tests, and never imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: pip install --no-deps -r tests/references.txt")
    return Path(spec.origin).parent / "templates"


def template(name: str) -> Editor:
    graph: Editor = json.loads((folder("comfyui_workflow_templates") / f"{name}.json").read_text(encoding="utf-8"))
    return graph


def _scaled(factor: int) -> tuple[int, int]:
    """The size of a picture of 0.25 megapixels, which are 1024 x 1024, with sides `factor` times as short."""
    scale = math.sqrt(0.25 * 1024 * 1024 / factor**2 / math.prod(PICTURE))
    return round(PICTURE[0] * scale), round(PICTURE[1] * scale)


def _cells(width: int, height: int) -> tuple[int, int]:
    """The size of what the VAE encodes: sides are cut to multiples of 8."""
    return width // 8 * 8, height // 8 * 8


def _outpainted(factor: int) -> tuple[int, int]:
    width, height = _scaled(factor)
    return _cells(width + 2 * (40 // factor), height + 40 // factor + 128 // factor)


_SIZES: dict[str, Sizes] = {
    "2_pass_pose_worship": [(1536, 1536)],
    "area_composition": [(704, 1280), (1088, 1920)],
    "area_composition_square_area_for_subject": [(512, 512), (1024, 1024)],
    "controlnet_example": [(1024, 1024)],
    "default": [(512, 512)],
    "depth_controlnet": [(1024, 1024)],
    "depth_t2i_adapter": [(1024, 1024)],
    "embedding_example": [(768, 768)],
    "esrgan_example": [(2048, 2048)],
    "gligen_textbox_example": [(768, 768)],
    "hiresfix_esrgan_workflow": [(512, 512), (1024, 1024)],
    "hiresfix_latent_workflow": [(768, 768)],
    "image2image": [],
    "inpaint_example": [],
    "inpaint_model_outpainting": [],
    "latent_upscale_different_prompt_model": [(512, 512), (768, 768)],
    "lora": [(768, 768)],
    "lora_multiple": [(1024, 1024)],
    "mixing_controlnets": [(1024, 1024)],
    "sdxl_refiner_prompt_example": [(1024, 1024)],
    "sdxl_revision_text_prompts": [(1024, 1024)],
    "sdxl_revision_zero_positive": [(1024, 1024)],
    "sdxl_simple_example": [(1024, 1024)],
    "sdxlturbo_example": [(512, 512)],
}
TEMPLATES = tuple(_SIZES)


def saved_sizes(name: str, factor: int) -> Sizes:
    """Widths and heights of the pictures that a template saves, smaller ones first, with sides `factor` times as short."""
    if name == "inpaint_model_outpainting":
        return [_outpainted(factor)]
    fixed = [(width // factor, height // factor) for width, height in _SIZES[name]]
    return fixed or [_cells(*_scaled(factor))]


def quick(graph: Editor, factor: int) -> Editor:
    """The graph with sides that are `factor` times as short, and with two steps of sampling, or three in two parts."""
    graph = copy.deepcopy(graph)
    for node in graph["nodes"]:
        values = node.get("widgets_values")
        for index in _LENGTHS.get(node["type"], ()):
            values[index] //= factor
        if node["type"] == "ImageScaleToTotalPixels":
            values[1] /= factor**2
        elif node["type"] == "KSampler":
            values[2] = 2
        elif node["type"] == "KSamplerAdvanced":
            values[3] = 3
            values[7:9] = [2 if value == 20 else value for value in values[7:9]]
        elif node["type"] == "PrimitiveNode" and isinstance(values[0], int):
            values[0] = {25: 3, 20: 2}[values[0]]
    return graph


def model_files(graph: Editor) -> dict[str, str]:
    """The name of each model file that a graph needs, with its folder in `models/`."""
    found = {}
    for node in graph["nodes"]:
        if node["type"] in _FILES:
            name = node["widgets_values"][0]
            found[name] = "t2i_adapter" if "T2I" in name else _FILES[node["type"]]
        if node["type"] == "CLIPTextEncode":
            found |= dict.fromkeys(re.findall(r"embedding:(\S+)", node["widgets_values"][0]), "embeddings")
    return found


def write_pictures(graph: Editor, inputs: Path) -> None:
    """Write a picture for each that a graph reads, of stripes and waves of colour, whose middle is transparent."""
    rows, columns = torch.meshgrid(torch.arange(PICTURE[1]), torch.arange(PICTURE[0]), indexing="ij")
    for node in graph["nodes"]:
        if node["type"] == "LoadImage":
            path = inputs / node["widgets_values"][0]
            path.parent.mkdir(parents=True, exist_ok=True)
            shift = len(path.name)
            planes = [((columns / 40 + shift).sin(), (rows / 30).cos(), ((rows + columns) / 50 + shift).sin())[i] for i in range(3)]
            stripes = (columns // 60 % 2)[..., None]  # with edges to find
            pixels = ((torch.stack(planes, -1) + 1) * (80 + 47 * stripes)).byte()
            hole = (rows - PICTURE[1] // 2).abs() + (columns - PICTURE[0] // 2).abs() < 90
            opacity = torch.where(hole, 0, 255).byte()[..., None]
            Image.fromarray(torch.cat([pixels, opacity], -1).numpy(), "RGBA").save(path)


def as_api(graph: Editor) -> dict[str, Any]:
    """The graph as ComfyUI's button "Export (API)" writes it."""
    nodes = {node["id"]: node for node in graph["nodes"]}
    links = {link[0]: link for link in graph["links"]}

    def source(link: int, type: str | None = None) -> Any:
        """What a link brings: a value, or the node and the output that it comes from."""
        _, id, slot, *_, own_type = links[link]
        node = nodes[id]
        if node["type"] == "PrimitiveNode":
            return node["widgets_values"][0]
        if node["type"] == "Reroute" or node.get("mode") == _BYPASSED:
            wanted = type or own_type
            fitting = [one["link"] for one in node["inputs"] if one["type"] in (wanted, "*") and one.get("link") is not None]
            return source(fitting[0], wanted)
        return [str(id), slot]

    def inputs(node: dict[str, Any]) -> Iterator[tuple[str, Any]]:
        values = node.get("widgets_values") or ["ComfyUI"]
        yield from ((name, value) for name, value in zip(_ORDER[node["type"]], values, strict=False) if name != "*")
        yield from ((one["name"], source(one["link"])) for one in node.get("inputs") or () if one.get("link") is not None)

    return {
        str(id): {"class_type": node["type"], "inputs": dict(inputs(node)), "_meta": {"title": node.get("title") or node["type"]}}
        for id, node in nodes.items()
        if node["type"] not in _ONLY_IN_THE_EDITOR and node.get("mode") not in (_MUTED, _BYPASSED)
    }
