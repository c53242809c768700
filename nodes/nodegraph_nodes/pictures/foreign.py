"""How other programs made a picture: what ComfyUI, AUTOMATIC1111's program, Forge and InvokeAI write into its file."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from nodegraph_nodes.pictures.texts import texts_in

_LONGEST_LINE: Final = 1 << 16  # characters of settings
_SETTING: Final = re.compile(r"[\s,]*([A-Za-z][\w /+().-]*):\s*")
_JSON: Final = json.JSONDecoder()
_DREAM: Final = {"s": "steps", "S": "seed", "C": "cfg", "A": "sampler", "m": "sampler", "W": "width", "H": "height"}
_DREAM_OPTION: Final = re.compile(rf"(?<!\S)-([{''.join(_DREAM)}])\s*([^\s-]\S*)")  # "-s50" and "-s 50"


def describe_picture(data: bytes) -> dict[str, Any] | None:
    """The program that made a PNG, JPEG or WebP file, and its settings; None if it is another, or its texts cannot be read."""
    texts = texts_in(data)
    for key, describe in _PROGRAMS.items():
        if key in texts and (found := describe(texts[key])) is not None:
            return {name: value for name, value in found.items() if value not in (None, "")}
    return None


def _object(text: str) -> dict[str, Any]:
    """A JSON object; empty if the text is something else."""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _automatic1111(text: str) -> dict[str, Any] | None:
    lines = text.strip().split("\n")
    if not re.match(r"Steps: \d", lines[-1]):
        return None
    settings = dict(_settings(lines[-1][:_LONGEST_LINE]))
    prompt, _, negative = "\n".join(lines[:-1]).partition("Negative prompt:")
    version = settings.pop("Version", "")
    program = "Forge" if re.match(r"f\d|neo", version) else "AUTOMATIC1111"
    names = {
        "Steps": "steps",
        "Sampler": "sampler",
        "Schedule type": "schedule",
        "CFG scale": "cfg",
        "Seed": "seed",
        "Model": "model",
    }
    known = {short: settings.pop(name) for name, short in names.items() if name in settings}
    width, _, height = settings.pop("Size", "").partition("x")
    size = {"width": width, "height": height} if height else {}
    return {
        "program": program,
        "version": version,
        "prompt": prompt.strip(),
        "negative": negative.strip(),
        **known,
        **size,
        **settings,
    }


def _settings(line: str) -> Iterator[tuple[str, str]]:
    """The settings in a line such as `Steps: 20, Hashes: {"model": "ab"}, Lora hashes: "x: 01, y: 23"`."""
    position = 0
    while match := _SETTING.match(line, position):
        start = position = match.end()
        value: Any = None
        if line[start : start + 1] in ('"', "{", "["):
            try:
                value, position = _JSON.raw_decode(line, start)
            except (ValueError, RecursionError):
                position = start
        if position == start:
            comma = line.find(",", start)
            position = len(line) if comma < 0 else comma
        yield match[1].strip(), value if isinstance(value, str) else line[start:position].strip()


def _comfyui(text: str) -> dict[str, Any] | None:
    nodes = {key: node for key, node in _object(text).items() if isinstance(node, dict) and isinstance(node.get("inputs"), dict)}
    if not nodes or not all(isinstance(node.get("class_type"), str) for node in nodes.values()):
        return None

    def above(link: Any, input: str) -> Any:
        """The nearest value of `input` in the nodes that a link leads to."""
        pending, seen = [link], set()
        while pending:
            current = pending.pop(0)
            key = current[0] if isinstance(current, list) and len(current) == 2 else None
            if not isinstance(key, str) or key not in nodes or key in seen:
                continue
            seen.add(key)
            inputs = nodes[key]["inputs"]
            if input in inputs and not isinstance(inputs[input], list | dict):
                return inputs[input]
            pending.extend(inputs.values())
        return None

    inputs: dict[str, Any] = next((node["inputs"] for node in nodes.values() if node["class_type"].startswith("KSampler")), {})
    return {
        "program": "ComfyUI",
        "prompt": above(inputs.get("positive"), "text"),
        "negative": above(inputs.get("negative"), "text"),
        "steps": _plain(inputs.get("steps")),
        "sampler": _plain(inputs.get("sampler_name")),
        "schedule": _plain(inputs.get("scheduler")),
        "cfg": _plain(inputs.get("cfg")),
        "seed": _plain(inputs.get("seed", inputs.get("noise_seed"))),
        "strength": _plain(inputs.get("denoise")),
        "model": above(inputs.get("model"), "ckpt_name") or above(inputs.get("model"), "unet_name"),
        "width": above(inputs.get("latent_image"), "width"),
        "height": above(inputs.get("latent_image"), "height"),
        "nodes": ", ".join(sorted({str(node["class_type"]) for node in nodes.values()})),
    }


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float) else None


def _invokeai(text: str) -> dict[str, Any] | None:
    found = _object(text)
    names = {"prompt": "positive_prompt", "negative": "negative_prompt", "sampler": "scheduler", "cfg": "cfg_scale"}
    settings = {short: _plain(found.get(name)) for short, name in names.items()}
    settings |= {name: _plain(found.get(name)) for name in ("steps", "seed", "width", "height")}
    if not any(value is not None for value in settings.values()):
        return None
    return {
        "program": "InvokeAI",
        "version": _plain(found.get("app_version")),
        **settings,
        "model": _model(found.get("model")),
        "mode": _plain(found.get("generation_mode")),
        "vae": _model(found.get("vae")),
        "loras": _weighted(found.get("loras"), ("model", "lora"), "weight"),
        "controls": _weighted(found.get("controlnets"), ("control_model",), "control_weight"),
    }


def _model(value: Any) -> Any:
    """The name of a model in InvokeAI's metadata: text, or an object whose names differ between versions."""
    return _plain(value.get("name") or value.get("model_name")) if isinstance(value, dict) else _plain(value)


def _weighted(values: Any, names: tuple[str, ...], weight: str) -> str:
    """Models with their weights, as A1111 lists them."""
    found = []
    for value in values if isinstance(values, list) else ():
        if isinstance(value, dict):
            model = next(filter(None, (_model(value.get(name)) for name in names)), "?")
            found.append(f"{model}: {value.get(weight)}")
    return ", ".join(found)


def _invokeai_graph(text: str) -> dict[str, Any] | None:
    """A picture of the canvas may have only this."""
    nodes = _object(text).get("nodes")
    types = {node.get("type") for node in nodes.values() if isinstance(node, dict)} if isinstance(nodes, dict) else set()
    names = sorted(type for type in types if isinstance(type, str))
    return {"program": "InvokeAI", "nodes": ", ".join(names)} if names else None


def _old_invokeai(text: str) -> dict[str, Any] | None:
    found = _object(text)
    image = found.get("image")
    if not isinstance(image, dict):
        return None
    prompt = image.get("prompt")
    if isinstance(prompt, list):
        prompt = ", ".join(str(part.get("prompt")) for part in prompt if isinstance(part, dict))
    settings = {name: _plain(image.get(name)) for name in ("steps", "sampler", "seed", "width", "height")}
    version, model = _plain(found.get("app_version")), _plain(found.get("model_weights"))
    cfg = _plain(image.get("cfg_scale"))
    return {"program": "InvokeAI", "version": version, "prompt": _plain(prompt), **settings, "cfg": cfg, "model": model}


def _dream(text: str) -> dict[str, Any] | None:
    match = re.match(r'\s*"((?:\\.|[^"\\])*)"(.*)', text, re.DOTALL)
    if match is None:
        return None
    settings = {_DREAM[option]: value for option, value in _DREAM_OPTION.findall(match[2])}
    return {"program": "InvokeAI", "prompt": re.sub(r"\\(.)", r"\1", match[1]), **settings}


_PROGRAMS: Final[Mapping[str, Callable[[str], dict[str, Any] | None]]] = {
    "invokeai_metadata": _invokeai,
    "sd-metadata": _old_invokeai,
    "Dream": _dream,
    "invokeai_graph": _invokeai_graph,
    "parameters": _automatic1111,
    "prompt": _comfyui,
}
"""What reads the text of each name."""
