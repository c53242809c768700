"""The text `parameters` that galleries and AUTOMATIC1111's program read: prompts, then the settings on one line."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any, Final

from nodegraph_diffusion.sampling import SAMPLERS

Nodes = Mapping[str, Mapping[str, Any]]

_PNG: Final = b"\x89PNG\r\n\x1a\n"


def parameters(nodes: Nodes, node: str, data: bytes) -> str | None:
    """The text for a PNG file that `node` made; None if no sampler is above it, and for other files."""
    if not data.startswith(_PNG):
        return None
    sampler = next(_above(nodes, node, "sampler"), None)
    if sampler is None:
        return None
    denoiser = next(_above(nodes, _source(sampler.get("denoiser")), "positive"), {})
    noise = next(_above(nodes, _source(sampler.get("noise")), "seed"), {})
    model = next(_above(nodes, _source(denoiser.get("unet")), "model"), {})
    width, height = struct.unpack(">II", data[16:24])
    settings = {
        "Steps": sampler.get("steps"),
        "Sampler": _sampler_name(sampler.get("sampler")),
        "Schedule type": str(sampler.get("schedule") or "").replace("_", " ").title() or None,
        "CFG scale": denoiser.get("cfg"),
        "Seed": noise.get("seed"),
        "Size": f"{width}x{height}",
        "Model": PurePath(model["model"]).stem if isinstance(model.get("model"), str) else None,
        "Denoising strength": sampler.get("strength") if sampler.get("strength") not in (None, 1, 1.0) else None,
        "Version": "nodegraph",
    }
    plain = {name: value for name, value in settings.items() if isinstance(value, str | int | float)}
    prompts = [_prompt(nodes, denoiser.get("positive")), f"Negative prompt: {_prompt(nodes, denoiser.get('negative'))}"]
    return "\n".join([*prompts, ", ".join(f"{name}: {_quoted(value)}" for name, value in plain.items())])


def _source(value: Any) -> str | None:
    """The node that a link comes from; None for other values."""
    return getattr(value, "node", None)


def _above(nodes: Nodes, start: str | None, input: str) -> Iterator[Mapping[str, Any]]:
    """The inputs of the nodes that have `input`, from `start` upwards, the nearest first."""
    pending, seen = [start], set[str | None]()
    while pending:
        name = pending.pop(0)
        if name is None or name not in nodes or name in seen:
            continue
        seen.add(name)
        inputs = nodes[name]["inputs"]
        if input in inputs:
            yield inputs
        for value in inputs.values():
            pending += map(_source, value if isinstance(value, list) else [value])


def _prompt(nodes: Nodes, link: Any) -> str:
    texts = (inputs["text"] for inputs in _above(nodes, _source(link), "text"))
    return next((text for text in texts if isinstance(text, str)), "")


def _sampler_name(name: Any) -> str | None:
    """What other programs call a sampler."""
    spec = SAMPLERS.get(name) if isinstance(name, str) else None
    return next((alias for alias in spec.aliases if " " in alias), name) if spec is not None else None


def _quoted(value: Any) -> str:
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if any(mark in text for mark in ",:\n") else text
