"""How other programs made a picture: what ComfyUI, AUTOMATIC1111's program, Forge and InvokeAI write into PNG files."""

from __future__ import annotations

import itertools
import json
import re
import struct
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Final

_PNG: Final = b"\x89PNG\r\n\x1a\n"
_LONGEST: Final = 16 << 20  # bytes of a text
_SETTING: Final = re.compile(r'\s*([A-Za-z][\w /+-]*):\s*("(?:\\.|[^"\\])*"|[^,]*)(?:,|$)')
_DREAM: Final = {"-s": "steps", "-S": "seed", "-C": "cfg", "-A": "sampler", "-W": "width", "-H": "height"}


def describe_picture(data: bytes) -> dict[str, Any] | None:
    """The program that made a PNG file, and its settings; None if it is none of these programs, or its texts cannot be read."""
    texts = text_chunks(data)
    for key, describe in _PROGRAMS.items():
        if key in texts and (found := describe(texts[key])) is not None:
            return {name: value for name, value in found.items() if value not in (None, "")}
    return None


def text_chunks(png: bytes) -> dict[str, str]:
    """The texts in a PNG file by their keywords (PNG specification, 11.3.3). Damaged and very long ones are left out."""
    texts: dict[str, str] = {}
    position = len(_PNG) if png.startswith(_PNG) else len(png)
    while position + 8 <= len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        kind, body = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        position += 12 + length
        if kind not in (b"tEXt", b"zTXt", b"iTXt") or len(body) < length or length > _LONGEST:
            continue
        key, _, rest = body.partition(b"\0")
        try:
            texts.setdefault(key.decode("latin-1"), _text(kind, rest))
        except (ValueError, zlib.error, IndexError):
            continue
    return texts


def _text(kind: bytes, rest: bytes) -> str:
    if kind == b"tEXt":
        return _decoded(rest)
    if kind == b"zTXt":
        return _decoded(_inflated(rest[1:]))
    is_compressed = rest[0] == 1
    content = rest[2:].split(b"\0", 2)[2]
    return (_inflated(content) if is_compressed else content).decode()


def _decoded(content: bytes) -> str:
    """Text of a chunk that should be Latin-1; some programs write UTF-8 there."""
    try:
        return content.decode()
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _inflated(content: bytes) -> bytes:
    """Compressed text. Raises ValueError if it is very long, as a few bytes can stand for gigabytes."""
    inflate = zlib.decompressobj()
    found = inflate.decompress(content, _LONGEST)
    if inflate.unconsumed_tail:
        raise ValueError("a text that is too long")
    return found


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
    settings = {name.strip(): _unquoted(value.strip()) for name, value in _SETTING.findall(lines[-1])}
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


def _unquoted(value: str) -> str:
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value
    return value


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
    model = found.get("model")
    names = {"prompt": "positive_prompt", "negative": "negative_prompt", "sampler": "scheduler", "cfg": "cfg_scale"}
    settings = {short: _plain(found.get(name)) for short, name in names.items()}
    settings |= {name: _plain(found.get(name)) for name in ("steps", "seed", "width", "height")}
    if not any(value is not None for value in settings.values()):
        return None
    name = model.get("name") or model.get("model_name") if isinstance(model, dict) else model
    return {"program": "InvokeAI", "version": _plain(found.get("app_version")), **settings, "model": _plain(name)}


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
    match = re.match(r'\s*"([^"]*)"(.*)', text, re.DOTALL)
    if match is None:
        return None
    words = match[2].split()
    settings = {_DREAM[word]: value for word, value in itertools.pairwise(words) if word in _DREAM}
    return {"program": "InvokeAI", "prompt": match[1], **settings}


_PROGRAMS: Final[Mapping[str, Callable[[str], dict[str, Any] | None]]] = {
    "invokeai_metadata": _invokeai,
    "sd-metadata": _old_invokeai,
    "Dream": _dream,
    "parameters": _automatic1111,
    "prompt": _comfyui,
}
"""What reads the text chunk of each name."""
