"""Recognises the model family of a graph by its classes and the names of its files."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final

from nodegraph_comfyui.reading.graph import ComfyNode, Shared

_CLOUD: Final = (
    r"kling|openai|gemini|recraft|luma|minimax|pika|pixverse|runway|stabilitystable|vidu|moonvalley|tripo|rodin|ideogram|bytedance|"
    r"bria|wan.*api|fluxpro|grok|meshy|veo|sora|topaz|magnific|hitpaw|elevenlabs|wavespeed|claude|openrouter|krea\d(image|style)|quiver|"
    r"beeble|claritycrystal|metamuse"
)
_FAMILIES: Final = (
    ("a cloud service", _CLOUD),
    ("Flux 2", r"flux2|flux-2|flux\.2"),
    ("Flux", r"flux"),
    ("Wan", r"wan[_\d.-]|^wan|wan2|wananimate|wanvideo"),
    ("LTX", r"ltx"),
    ("Hunyuan", r"hunyuan"),
    ("Qwen-Image", r"qwen"),
    ("HiDream", r"hidream"),
    ("Lumina", r"lumina|z_image|z-image|zimage"),
    ("Chroma", r"chroma"),
    ("Cosmos", r"cosmos"),
    ("Mochi", r"mochi"),
    ("OmniGen", r"omnigen"),
    ("Kandinsky", r"kandinsky"),
    ("AuraFlow", r"auraflow|aura_flow"),
    ("PixArt", r"pixart"),
    ("Stable Cascade", r"stablecascade|stable_cascade"),
    ("Stable Audio", r"stable_audio|stableaudio|emptylatentaudio"),
    ("ACE-Step", r"ace_step|acestep"),
    ("Stable Video Diffusion", r"svd|videolinearcfg"),
    ("Stable Zero123", r"zero123"),
    ("Stable Diffusion 3", r"sd3|stable-diffusion-3"),
    ("Anima", r"anima[-_]|^anima"),
    ("video", r"video"),
    ("audio", r"audio"),
    ("3D", r"3d|mesh|gltf|glb"),
)
"""What people call a family, and what the classes and files of a graph for it contain, the more special ones first."""


def family_of(nodes: Iterable[ComfyNode]) -> str | None:
    """The family that a graph is for, if it is not Stable Diffusion 1, 2 or XL. Names of files say more than classes."""
    listed = list(nodes)
    files = [_file(value).lower() for node in listed for value in (*node.inputs.values(), *node.widgets)]
    return _family(filter(None, files)) or _family(node.kind.lower() for node in listed)


def family_of_files(nodes: Iterable[ComfyNode]) -> str | None:
    """The same by the names of the files alone."""
    return _family(found for node in nodes for value in node.inputs.values() if (found := _file(value).lower()))


def _family(words: Iterable[str]) -> str | None:
    listed = list(words)
    return next((name for name, pattern in _FAMILIES if any(re.search(pattern, word) for word in listed)), None)


def _file(value: Any) -> str:
    """The name of a file that a value is; "" for other values."""
    text = value.value if isinstance(value, Shared) else value
    is_file = isinstance(text, str) and re.fullmatch(r"[^\n]{1,200}\.(safetensors|sft|ckpt|pt|pth|bin|gguf)", text)
    return text if is_file else ""
